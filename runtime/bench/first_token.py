"""From the start of a process to its first token, with everything that lies between.

    python -m ferrum.runtime.bench.first_token THREADS TOKENS ferrum OUT.onnx cpu|cuda
    python -m ferrum.runtime.bench.first_token THREADS TOKENS engine MODEL.gguf repack|in-place \
        [LIBRARY]

Prints the moments of the clock that all processes share: imported, loaded, token.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrum.commands.child import module_command
from ferrum.runtime.bench.errors import SideFailed
from ferrum.runtime.bench.sides import Side

PROMPT_TOKENS = 16


@dataclass(frozen=True)
class FirstToken:
    """Seconds since the start of a process, one figure for each round."""

    side: str
    imported: tuple[float, ...]
    loaded: tuple[float, ...]
    token: tuple[float, ...]


def first_tokens(
    sides: Sequence[Side], threads: int, rounds: int, prepare: Callable[[], None]
) -> list[FirstToken]:
    """Start a process for each side in turn, `rounds` times after one that is not counted.

    `prepare` is called before each.
    """
    taken: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides:
            prepare()
            moments = _start(side, threads)
            if number > 0:
                taken[side.name].append(moments)
    return [
        FirstToken(name, *(tuple(m[what] for m in all) for what in ("imported", "loaded", "token")))
        for name, all in taken.items()
    ]


def _start(side: Side, threads: int) -> dict[str, float]:
    command = [*module_command(__name__), str(threads), str(PROMPT_TOKENS), *side.arguments]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise SideFailed(f"[{side.name}] first token: {said[-1]}")
    moments: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {what: moment - start for what, moment in moments.items()}


def main(arguments: Sequence[str]) -> int:
    """One process of one side."""
    threads, tokens, kind, *others = arguments
    prompt = list(range(1, int(tokens) + 1))
    if kind == "ferrum":
        moments = _ferrum(int(threads), prompt, *others)
    else:
        moments = _engine(int(threads), prompt, *others)
    print(json.dumps(moments))
    return 0


def _ferrum(threads: int, prompt: list[int], model: str, device: str) -> dict[str, float]:
    from ferrum.runtime.bench.machine import physical_cores
    from ferrum.runtime.llm import LLM
    from ferrum.runtime.sampler import SamplingParams

    moments = {"imported": time.monotonic()}
    threads = 0 if threads == physical_cores() else threads
    with LLM(Path(model), threads=threads, device=device) as llm:
        moments["loaded"] = time.monotonic()
        stream: Any = llm.stream(prompt, SamplingParams(max_tokens=1, ignore_eos=True))
        next(iter(stream))
        moments["token"] = time.monotonic()
    return moments


def _engine(
    threads: int, prompt: list[int], model: str, mode: str, *library: str
) -> dict[str, float]:
    from ferrum.runtime.bench.engine import import_engine, open_engine
    from ferrum.runtime.bench.llama import Piece

    import_engine(*library)
    moments = {"imported": time.monotonic()}
    engine = open_engine(model, mode, *library)
    engine.open(sequences=1, length=len(prompt) + 1, threads=threads)
    moments["loaded"] = time.monotonic()
    engine.decode([Piece(0, prompt, 0, True)])
    int(engine.logits(len(prompt) - 1).argmax())
    moments["token"] = time.monotonic()
    return moments


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
