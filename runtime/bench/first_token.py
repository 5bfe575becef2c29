"""From the start of a process to its first token, with everything that lies between.

    python -m ferrum.runtime.bench.first_token ferrum OUT.onnx THREADS TOKENS cpu|cuda
    python -m ferrum.runtime.bench.first_token llama MODEL.gguf THREADS TOKENS repack|in-place

Prints the moments of the clock that all processes share: imported, loaded, token.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrum.commands.child import module_command
from ferrum.runtime.bench.errors import SideFailed

PROMPT_TOKENS = 16


@dataclass(frozen=True)
class FirstToken:
    """Seconds since the start of a process, one figure for each round."""

    side: str
    imported: tuple[float, ...]
    loaded: tuple[float, ...]
    token: tuple[float, ...]


def first_tokens(
    sides: Mapping[str, Sequence[str]], threads: int, rounds: int, prepare: Callable[[], None]
) -> list[FirstToken]:
    """Start a process for each side in turn, `rounds` times after one that is not counted.

    `sides`: a name, and the worker's arguments for that side. `prepare` is called before each.
    """
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, arguments in sides.items():
            prepare()
            moments = _start(name, arguments, threads)
            if number > 0:
                taken[name].append(moments)
    return [
        FirstToken(name, *(tuple(m[what] for m in all) for what in ("imported", "loaded", "token")))
        for name, all in taken.items()
    ]


def _start(name: str, arguments: Sequence[str], threads: int) -> dict[str, float]:
    kind, model, *mode = arguments
    command = [*module_command(__name__), kind, model, str(threads), str(PROMPT_TOKENS), *mode]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise SideFailed(f"[{name}] first token: {said[-1]}")
    moments: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {what: moment - start for what, moment in moments.items()}


def main(arguments: Sequence[str]) -> int:
    """One process of one side."""
    kind, model, threads, tokens, *mode = arguments
    prompt = list(range(1, int(tokens) + 1))
    if kind == "ferrum":
        moments = _ferrum(Path(model), int(threads), prompt, *mode)
    else:
        moments = _llama(Path(model), int(threads), prompt, mode == ["repack"])
    print(json.dumps(moments))
    return 0


def _ferrum(model: Path, threads: int, prompt: list[int], device: str) -> dict[str, float]:
    from ferrum.runtime.bench.machine import physical_cores
    from ferrum.runtime.llm import LLM
    from ferrum.runtime.sampler import SamplingParams

    moments = {"imported": time.monotonic()}
    threads = 0 if threads == physical_cores() else threads
    with LLM(model, threads=threads, device=device) as llm:
        moments["loaded"] = time.monotonic()
        stream: Any = llm.stream(prompt, SamplingParams(max_tokens=1, ignore_eos=True))
        next(iter(stream))
        moments["token"] = time.monotonic()
    return moments


def _llama(model: Path, threads: int, prompt: list[int], repack: bool) -> dict[str, float]:
    from ferrum.runtime.bench.llama import Llama, Piece, require_llama

    require_llama()
    moments = {"imported": time.monotonic()}
    llama = Llama(model, repack=repack)
    llama.open(sequences=1, length=len(prompt) + 1, threads=threads)
    moments["loaded"] = time.monotonic()
    llama.decode([Piece(0, prompt, 0, True)])
    int(llama.logits(len(prompt) - 1).argmax())
    moments["token"] = time.monotonic()
    return moments


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
