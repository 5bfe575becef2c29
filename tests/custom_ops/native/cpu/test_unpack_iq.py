"""Grids looked up by vectors: every entry, at every position, with its signs and scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from ferrum.custom_ops.quants import QUANTS

Blocks = Callable[[str, int, float, int], npt.NDArray[np.uint8]]
each_grid = pytest.mark.parametrize("name", ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"])


@each_grid
@pytest.mark.parametrize("columns", [1, 9, 33])
def test_all_entries_of_a_grid_give_the_generic_bits(
    kernels: Any, isa: str, random_blocks: Blocks, name: str, columns: int
) -> None:
    # A grid has up to 1024 entries, and a row 32 indices or more: each entry is met about 32 times.
    quant, rows = QUANTS.by_name(name), 1024
    weights = random_blocks(name, rows, 0.05, 0).reshape(rows, -1)
    x = np.random.default_rng(columns).standard_normal((columns, quant.block)).astype(np.float32)
    expected = kernels.matmul("generic", quant.id, weights, x, "fine")
    np.testing.assert_array_equal(kernels.matmul(isa, quant.id, weights, x, "fine"), expected)


@each_grid
def test_each_position_has_its_own_value(
    kernels: Any, isa: str, random_blocks: Blocks, name: str
) -> None:
    # A column for each value of a block, with which the product is that value alone.
    quant, rows = QUANTS.by_name(name), 33
    weights = random_blocks(name, rows, 0.05, 1).reshape(rows, -1)
    x = np.eye(quant.block, dtype=np.float32)
    expected = dequantize(weights, GGMLQuantizationType(quant.id)).T
    got = kernels.matmul(isa, quant.id, weights, x, "fine")
    # Three roundings: the activation's scale, its product with the weight's, and their sum.
    np.testing.assert_allclose(got, expected, rtol=2.0**-22)
