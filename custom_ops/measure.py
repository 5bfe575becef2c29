"""What this machine gives at most: rates of memory and of products, measured by the library.

best = describe()["isas"][0]
read_rate(buffer, threads=2, seconds=0.1)       # bytes per second
product_rate("int8", best, threads=2, seconds=0.1).per_second
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ferrum.custom_ops.library import describe, library_path

Kind = Literal["int8", "float32"]
_KINDS: dict[Kind, int] = {"int8": 0, "float32": 1}
_ERRORS = {1: "this machine does not have {isa}", 2: "the system gives no {threads} threads"}
_LEAST_BYTES = 512  # of each thread's part


class MeasureError(ValueError):
    """What cannot be measured here; one line."""


@dataclass(frozen=True)
class ProductRate:
    """Multiply-adds per second of all threads together, and the instruction that does them."""

    instruction: str
    per_second: float


def read_rate(
    data: npt.NDArray[Any], *, threads: int, seconds: float, isa: str | None = None
) -> float:
    """Bytes per second at which threads read an array, each its own part, for some seconds.

    `data` begins on a cache line and has 512 bytes or more for each thread. The instruction set is
    the best that the machine has, unless `isa` names another. MeasureError where that is not here.
    """
    if not data.flags.c_contiguous or data.ctypes.data % 64:
        raise MeasureError("[read_rate] data -> a contiguous array on a cache line")
    if threads < 1 or data.nbytes < threads * _LEAST_BYTES:
        raise MeasureError(
            f"[read_rate] {data.nbytes} bytes for {threads} threads -> {_LEAST_BYTES} or more each"
        )
    rate = ctypes.c_double()
    isa = isa or best_isa()
    status = _load(library_path()).ferrum_measure_read(
        isa.encode(), data.ctypes.data, data.nbytes, threads, seconds, ctypes.byref(rate)
    )
    _check("read_rate", status, isa, threads)
    return rate.value


def product_rate(kind: Kind, isa: str, *, threads: int, seconds: float) -> ProductRate:
    """The rate of an instruction set's widest products, on independent sums in registers."""
    if threads < 1:
        raise MeasureError(f"[product_rate] threads, got {threads} -> 1 or more")
    instruction, rate = ctypes.c_char_p(), ctypes.c_double()
    status = _load(library_path()).ferrum_measure_products(
        isa.encode(), _KINDS[kind], threads, seconds, ctypes.byref(instruction), ctypes.byref(rate)
    )
    _check("product_rate", status, isa, threads)
    return ProductRate((instruction.value or b"").decode(), rate.value)


@cache
def best_isa() -> str:
    """The best instruction set that this machine has, whatever FERRUM_ISA says."""
    return str(describe()["isas"][0])


def cache_line_bytes(count: int) -> npt.NDArray[np.uint8]:
    """`count` bytes that begin on a cache line, of memory that has been written."""
    raw = np.empty(count + 64, np.uint8)
    start = -raw.ctypes.data % 64
    data = raw[start : start + count]
    data.fill(1)
    return data


@cache
def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    number, place = ctypes.c_double, ctypes.POINTER(ctypes.c_double)
    library.ferrum_measure_read.argtypes = [
        ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, number, place,
    ]  # fmt: skip
    library.ferrum_measure_products.argtypes = [
        ctypes.c_char_p, ctypes.c_int, ctypes.c_int, number, ctypes.POINTER(ctypes.c_char_p), place,
    ]  # fmt: skip
    return library


def _check(function: str, status: int, isa: str, threads: int) -> None:
    if status:
        raise MeasureError(f"[{function}] {_ERRORS[status].format(isa=isa, threads=threads)}")
