"""The native kernels without ONNX Runtime: ctypes over the library's test entry points."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from native_products import PRODUCTS

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
ISAS = {"x86_64": ("generic", "avx2", "avx512"), "aarch64": ("generic", "neon")}


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _library_path() -> Path:
    if path := os.environ.get("FERRUM_LIBRARY"):
        return Path(path)
    from ferrum.custom_ops.library import library_path

    return Path(library_path())


@dataclass(frozen=True)
class Row:
    """One row of the library's quant table."""

    name: str
    id: int
    block: int
    bytes: int


class Kernels:
    """Numpy arrays in, numpy arrays out; a non-zero status raises."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def call(self, name: str, *arguments: object) -> None:
        """Calls one entry point, with arrays as pointers and ints as int64."""
        converted = [
            _pointer(a) if isinstance(a, np.ndarray)
            else ctypes.c_int64(a) if isinstance(a, int)
            else a
            for a in arguments
        ]  # fmt: skip
        status = getattr(self._library, name)(*converted)
        if status:
            raise ValueError(f"{name} returned {status}")

    def supports(self, isa: str) -> bool:
        return not self._library.ferrum_test_isa(isa.encode())

    def table(self) -> list[Row]:
        rows = []
        ident, name = ctypes.c_int(), ctypes.c_char_p()
        block, size = ctypes.c_int64(), ctypes.c_int64()
        fields = [ctypes.byref(field) for field in (ident, name, block, size)]
        while not self._library.ferrum_test_quant(ctypes.c_int(len(rows)), *fields):
            rows.append(Row((name.value or b"").decode(), ident.value, block.value, size.value))
        return rows

    def dequantize(self, type_id: int, blocks: Array, count: int) -> Floats:
        out = np.empty(count, np.float32)
        self.call("ferrum_test_dequantize", ctypes.c_int(type_id), blocks, blocks.size, out, count)
        return out

    def matmul(self, isa: str, type_id: int, weights: Array, x: Floats, kind: str) -> Floats:
        """weights uint8[rows, row_bytes] x float32[columns, k] -> float32[columns, rows].

        kind: "exact", or with int8 activations "fine" or "even" (kernels.h).
        """
        out = np.full((x.shape[0], weights.shape[0]), np.nan, np.float32)
        self.call(
            "ferrum_test_matmul", isa.encode(), ctypes.c_int(type_id), PRODUCTS[kind],
            weights, weights.size, weights.shape[0], x.shape[1], x, x.shape[0], out,
        )  # fmt: skip
        return out

    def quantize(
        self, isa: str, type_id: int, x: Floats, kind: str = "fine"
    ) -> tuple[Array, Floats, Array]:
        """float32[k] -> int8[groups, 32], scale float32[groups], sums int32[groups, 2].

        Groups as the type's products take them, a multiple of four; `sums` are what they multiply
        with offsets of weights, float32 or int32 by the type.
        """
        groups = -(-x.size // 128) * 4
        q, scale = np.empty((groups, 32), np.int8), np.empty(groups, np.float32)
        sums = np.empty((groups, 2), np.int32)
        self.call(
            "ferrum_test_quantize", isa.encode(), ctypes.c_int(type_id), PRODUCTS[kind], x, x.size,
            q, scale, sums,
        )  # fmt: skip
        return q, scale, sums


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    return Kernels(_library_path())


@pytest.fixture(params=ISAS.get(platform.machine(), ("generic",)))
def isa(request: pytest.FixtureRequest, kernels: Kernels) -> str:
    """Every instruction set that this machine has."""
    if not kernels.supports(request.param):
        pytest.skip(f"this machine has no {request.param}")
    return str(request.param)


@pytest.fixture(scope="session")
def random_blocks() -> Callable[[str, int, float, int], npt.NDArray[np.uint8]]:
    """tests/tools/random_blocks.py's generator: name, count, deviation, seed."""
    path = Path(__file__).parents[3] / "tools" / "random_blocks.py"
    spec = importlib.util.spec_from_file_location("random_blocks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    generate: Callable[[str, int, float, int], npt.NDArray[np.uint8]] = module.random_blocks
    return generate
