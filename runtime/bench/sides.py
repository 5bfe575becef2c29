"""Who is measured: ferrum, and beside it other engines, their weights in the file or copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.peer import peer_name

Mode = Literal["in-place", "repack"]
FERRUM = "ferrum"
LLAMA = "llama.cpp"


@dataclass(frozen=True)
class Side:
    """A row of the tables, and what the worker is started with for it."""

    name: str
    arguments: list[str]
    copies: bool = False  # whether it makes a second copy of the weights


def ferrum_side(model: Path, device: str) -> Side:
    """ferrum on an export."""
    return Side(FERRUM, ["ferrum", str(model), device])


def other_sides(gguf: Path, modes: Sequence[Mode], libraries: Sequence[Path]) -> list[Side]:
    """llama.cpp and the engines of those libraries (see peer.py), in each of the modes.

    BenchError where a library is none, or two have a name in common.
    """
    engines: dict[str, list[str]] = {LLAMA: []}
    for library in libraries:
        name = peer_name(library)
        if name in engines:
            raise BenchError(f"[--vs-library] {library} is {name} -> another engine than before")
        engines[name] = [str(library)]
    return [
        Side(
            name=f"{name} {mode.replace('-', ' ')}",
            arguments=["engine", str(gguf), mode, *library],
            copies=mode == "repack",
        )
        for name, library in engines.items()
        for mode in modes
    ]
