"""The figures of ferrum-serve, one sub-command for each; see docs/bench/serve.md.

    python -m ferrum.runtime.bench.serving clients OUT.onnx --vs MODEL.gguf --llama-server PATH
    python -m ferrum.runtime.bench.serving overhead OUT.onnx
    python -m ferrum.runtime.bench.serving beside OUT.onnx
    python -m ferrum.runtime.bench.serving turn OUT.onnx
    python -m ferrum.runtime.bench.serving soak OUT.onnx --minutes 20
    python -m ferrum.runtime.bench.serving speculation OUT.onnx

Servers are processes of their own; one that has no turn is stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ferrum.runtime.artifact import Artifact, ArtifactError
from ferrum.runtime.bench.errors import BenchError, SideFailed
from ferrum.runtime.bench.machine import machine, physical_cores
from ferrum.runtime.bench.serving import page
from ferrum.runtime.bench.serving.clients import Peer, compare
from ferrum.runtime.bench.serving.first_text import beside_long_prompt, second_turn
from ferrum.runtime.bench.serving.load import Load
from ferrum.runtime.bench.serving.overhead import overhead
from ferrum.runtime.bench.serving.soak import soak
from ferrum.runtime.bench.serving.speculation import speculation


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    result = argparse.ArgumentParser(
        prog="python -m ferrum.runtime.bench.serving",
        description="Measure ferrum-serve under load.",
        allow_abbrev=False,
    )
    cases = result.add_subparsers(dest="case", required=True)
    for name, what in {
        "clients": "tokens per second of many clients at once, beside llama.cpp's own server",
        "overhead": "what server and scheduler cost per token, beside the model's step alone",
        "beside": "time to first text of a short prompt beside another's long one",
        "turn": "time to first text of a chat's second turn, prefixes reused and not",
        "soak": "a crowd for a while: every outcome counted, memory watched",
        "speculation": "speed with drafts by n-gram lookup and without, no server between",
    }.items():
        case = cases.add_parser(name, help=what, description=what, allow_abbrev=False)
        case.add_argument("model", metavar="OUT.onnx", type=Path)
        case.add_argument("--json", metavar="FILE", type=Path, help="write all figures to a file")
        add = case.add_argument
        if name in ("clients", "overhead"):
            add("--clients", metavar="N", type=int, default=16, help="default: 16")
            add("--prompt", metavar="N", type=int, default=128, help="tokens (default: 128)")
            add("--tokens", metavar="N", type=int, default=128,
                help="to generate for each (default: 128)")  # fmt: skip
        if name == "clients":
            add("--temperature", metavar="X", type=float, default=0.0,
                help="0 takes the likeliest token (default: 0)")  # fmt: skip
            add("--vs", metavar="MODEL.gguf", type=Path, help="the file the export was made from")
            add("--llama-server", metavar="PATH", type=Path, help="llama.cpp's program")
        if name == "beside":
            add("--short", metavar="N", type=int, default=24, help="tokens (default: 24)")
            add("--long", metavar="N", type=int, default=2000, help="tokens (default: 2000)")
        if name == "turn":
            add("--history", metavar="N", type=int, default=1500, help="tokens (default: 1500)")
        if name == "soak":
            add("--minutes", metavar="X", type=float, default=20.0, help="default: 20")
            add("--clients", metavar="N", type=int, default=32, help="default: 32")
            add("--kv-capacity", metavar="N", type=int, default=2048,
                help="tokens in the caches (default: 2048)")  # fmt: skip
        else:
            add("--repeat", metavar="N", type=int, default=5,
                help="rounds, after one that does not count (default: 5)")  # fmt: skip
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run one case; returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        found, lines = _measure(arguments)
    except SideFailed as error:
        print(error, file=sys.stderr)
        return 1
    except (ArtifactError, BenchError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    about = asdict(machine())
    print(page.heading(about), *lines, sep="\n")
    if arguments.json:
        record = {"machine": about, "command": sys.argv[1:] if argv is None else list(argv)}
        arguments.json.write_text(json.dumps({**record, arguments.case: found}, indent=1) + "\n")
    return 0


def _measure(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    """A case's figures, as plain values and as lines of text."""
    model, case = arguments.model, arguments.case
    vocabulary = Artifact.open(model).manifest.model.vocabulary
    if case == "clients":
        served = compare(model, _peer(arguments), _load(arguments, vocabulary), arguments.repeat,
                         _say)  # fmt: skip
        return [asdict(one) for one in served], page.clients(served)
    if case == "overhead":
        rounds = overhead(model, _load(arguments, vocabulary), arguments.repeat, _say)
        return [asdict(one) for one in rounds], page.overhead(rounds)
    if case == "beside":
        waits = beside_long_prompt(
            model, vocabulary, arguments.short, arguments.long, arguments.repeat, _say
        )
        return [asdict(one) for one in waits], page.beside(waits)
    if case == "turn":
        turns = second_turn(model, arguments.history, arguments.repeat, _say)
        return [asdict(one) for one in turns], page.turns(turns)
    if case == "speculation":
        drafts = speculation(model, arguments.repeat, _say)
        return [asdict(one) for one in drafts], page.speculation(drafts)
    found = soak(
        model, seconds=arguments.minutes * 60, clients=arguments.clients,
        kv_capacity=arguments.kv_capacity, say=_say,
    )  # fmt: skip
    return asdict(found), page.soak(found)


def _load(arguments: argparse.Namespace, vocabulary: int) -> Load:
    temperature = getattr(arguments, "temperature", 0.0)
    return Load(arguments.clients, arguments.prompt, arguments.tokens, vocabulary, temperature)


def _peer(arguments: argparse.Namespace) -> Peer | None:
    if (arguments.vs is None) != (arguments.llama_server is None):
        raise BenchError("[--vs, --llama-server] one of both -> both, or none")
    if arguments.vs is None:
        return None
    return Peer(arguments.llama_server, arguments.vs, physical_cores())


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
