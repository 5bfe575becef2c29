"""The machine alone: what its memory and its arithmetic give at most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferrum.custom_ops.library import describe
from ferrum.custom_ops.measure import best_isa, cache_line_bytes, product_rate, read_rate
from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.machine import last_level_cache
from ferrum.runtime.free_memory import free_memory

_SECONDS = 0.25
_BESIDE_SECONDS = 0.08
_REPEATS = 5


@dataclass(frozen=True)
class Limit:
    """One measured limit; `rates` are per second, of bytes or of multiply-adds."""

    what: str
    how: str
    threads: int
    unit: str
    rates: tuple[float, ...]


class Limits:
    """What bounds either kind of work, measured again and again: machines have moods.

    Memory is read as anonymous pages that no cache holds; products are int8 ones of the machine's
    best instruction set.
    """

    def __init__(self) -> None:
        size = min(max(256 << 20, 4 * last_level_cache()), free_memory() // 8)
        self._data = cache_line_bytes(size)

    def now(self, case: Case) -> float:
        """Bytes read per second for a decode, multiply-adds per second for a prefill."""
        if case.kind == "decode":
            return self.read(case.threads, _BESIDE_SECONDS)
        return product_rate(
            "int8", best_isa(), threads=case.threads, seconds=_BESIDE_SECONDS
        ).per_second

    def read(self, threads: int, seconds: float) -> float:
        """Bytes per second."""
        return read_rate(self._data, threads=threads, seconds=seconds)


def memory_limits(limits: Limits, threads: int, file: Path | None) -> list[Limit]:
    """Rates of reading anonymous memory and, where there is a file, its mapped pages."""
    rates = tuple(limits.read(threads, _SECONDS) for _ in range(_REPEATS))
    found = [Limit("memory read", "anonymous", threads, "B/s", rates)]
    if file is not None:
        pages = np.memmap(file, np.uint8, "r")
        read_rate(pages, threads=threads, seconds=_SECONDS)  # the first touch maps the pages
        rates = tuple(read_rate(pages, threads=threads, seconds=_SECONDS) for _ in range(_REPEATS))
        found.append(Limit("memory read", f"mapped {file.name}", threads, "B/s", rates))
    return found


def product_limits(threads: int) -> list[Limit]:
    """Rates of int8 and float32 products, for each instruction set of the machine, best first."""
    found = []
    for isa in describe()["isas"]:
        for kind in ("int8", "float32"):
            taken = [
                product_rate(kind, isa, threads=threads, seconds=_SECONDS / 5)
                for _ in range(_REPEATS)
            ]
            name = f"{isa}: {taken[0].instruction}"
            rates = tuple(rate.per_second for rate in taken)
            found.append(Limit(f"{kind} products", name, threads, "MAC/s", rates))
    return found
