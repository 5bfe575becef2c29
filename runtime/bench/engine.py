"""llama.cpp, or another engine by its library, as a side's arguments name it."""

from __future__ import annotations

from pathlib import Path

from ferrum.runtime.bench.llama import Llama, require_llama
from ferrum.runtime.bench.peer import Peer, peer_name

Engine = Llama | Peer


def import_engine(library: str | None = None) -> None:
    """Load its code. BenchError where there is none."""
    if library is None:
        require_llama()
    else:
        peer_name(Path(library))


def open_engine(model: str, mode: str, library: str | None = None) -> Engine:
    """Map a GGUF, or copy its weights where the mode is "repack"."""
    repack = mode == "repack"
    if library is None:
        return Llama(Path(model), repack=repack)
    return Peer(Path(library), Path(model), repack=repack)
