"""The machine alone: what its memory and its arithmetic give at most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferrum.custom_ops.library import describe
from ferrum.custom_ops.measure import cache_line_bytes, product_rate, read_rate
from ferrum.runtime.bench.machine import last_level_cache, memory_info

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

    @property
    def median(self) -> float:
        """The middle one of the rates."""
        return float(np.median(self.rates))


class Bandwidth:
    """Reads anonymous memory that no cache holds."""

    def __init__(self) -> None:
        size = min(max(256 << 20, 4 * last_level_cache()), memory_info()["MemAvailable"] // 8)
        self._data = cache_line_bytes(size)

    def read(self, threads: int, seconds: float = _BESIDE_SECONDS) -> float:
        """Bytes per second, now."""
        return read_rate(self._data, threads=threads, seconds=seconds)


def memory_limits(bandwidth: Bandwidth, threads: int, file: Path | None) -> list[Limit]:
    """Rates of reading anonymous memory and, where there is a file, its mapped pages."""
    rates = tuple(bandwidth.read(threads, _SECONDS) for _ in range(_REPEATS))
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
