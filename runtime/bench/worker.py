"""The process that a side is measured in: does what it is told, one line of JSON each way.

    python -m ferrum.runtime.bench.worker ferrum OUT.onnx cpu|cuda
    python -m ferrum.runtime.bench.worker engine MODEL.gguf repack|in-place [LIBRARY]

Requests are {"do": "open", "case": {...}, "profile": false}, {"do": "run"}, {"do": "profile"} and
{"do": "close"}; a reply is what was asked for, {"error": one line} for bad input or
{"failed": one line}. It ends with its input.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Protocol, TextIO

from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.errors import BenchError

_PR_SET_PDEATHSIG = 1


class Side(Protocol):
    """Something that can be measured."""

    def open(self, case: Case, profile: bool) -> dict[str, Any]:
        """Make ready for a case; `cache_tokens` is how many its KV caches hold."""

    def run(self) -> float:
        """One repetition, in seconds."""

    def profile(self) -> list[dict[str, Any]]:
        """Where its time goes."""

    def close(self) -> None:
        """Forget the case."""


def main(arguments: list[str]) -> int:
    """Serve requests until the input ends."""
    die_with_parent()
    replies = private_output()
    try:
        side = _side(arguments)
    except ValueError as error:  # the families of bad input are all ValueErrors with one line
        _send(replies, {"error": str(error)})
        return 2
    _send(replies, {"ready": True})
    for line in sys.stdin:
        try:
            reply = _answer(side, json.loads(line))
        except ValueError as error:
            reply = {"error": str(error)}
        except RuntimeError as error:
            reply = {"failed": str(error)}
        _send(replies, reply)
    return 0


def die_with_parent() -> None:
    """A stopped process does not see its input end, so the kernel must end it."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def private_output() -> TextIO:
    """The standard output; what libraries print from now on goes to the standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _side(arguments: list[str]) -> Side:
    kind, *others = arguments
    if kind == "ferrum":
        from ferrum.runtime.bench.ferrum_side import FerrumSide

        model, device = others
        return FerrumSide(Path(model), device)
    from ferrum.runtime.bench.engine import open_engine
    from ferrum.runtime.bench.engine_side import EngineSide

    return EngineSide(open_engine(*others))


def _answer(side: Side, request: dict[str, Any]) -> dict[str, Any]:
    wanted = request["do"]
    if wanted == "open":
        return side.open(Case(**request["case"]), request["profile"])
    if wanted == "run":
        return {"seconds": side.run()}
    if wanted == "profile":
        return {"stages": side.profile()}
    if wanted == "close":
        side.close()
        return {}
    raise BenchError(f"[worker] {wanted!r} -> open, run, profile or close")


def _send(replies: TextIO, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
