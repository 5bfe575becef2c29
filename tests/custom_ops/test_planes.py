"""Matrices in planes: every field of every block where it should be, and back again."""

from __future__ import annotations

import numpy as np
import pytest

from ferrum.custom_ops.planes import strips, to_blocks, to_planes
from ferrum.custom_ops.quants import QUANTS, Quant

each = pytest.mark.parametrize("planes", QUANTS.planes, ids=lambda quant: quant.name)


def blocks_of(planes: Quant, *shape: int) -> np.ndarray:
    """uint8[..., rows, row bytes] of random bytes; the last size is blocks a row."""
    rng = np.random.default_rng(planes.id)
    return rng.integers(0, 256, (*shape[:-1], shape[-1] * planes.bytes), dtype=np.uint8)


@each
def test_a_field_of_every_block_lies_in_its_plane_row_by_row(planes: Quant) -> None:
    rows, in_row = 5, 3
    blocks = blocks_of(planes, rows, in_row)
    flat, at = to_planes(planes, blocks).ravel(), 0
    begin = 0
    for size in planes.fields:
        for row in range(rows):
            for block in range(in_row):
                start = block * planes.bytes + begin
                wanted = blocks[row, start : start + size]
                np.testing.assert_array_equal(flat[at : at + size], wanted)
                at += size
        begin += size
    assert at == flat.size


@each
def test_each_matrix_of_a_stack_has_planes_of_its_own(planes: Quant) -> None:
    stack = blocks_of(planes, 3, 4, 2)
    wanted = np.stack([to_planes(planes, matrix) for matrix in stack])
    np.testing.assert_array_equal(to_planes(planes, stack), wanted)
    np.testing.assert_array_equal(to_blocks(planes, wanted), stack)


@each
def test_strips_hold_some_blocks_and_no_others(planes: Quant) -> None:
    blocks = blocks_of(planes, 6, 4)
    flat = to_planes(planes, blocks).ravel()
    fields = [flat[at : at + n].reshape(5, -1) for at, n in strips(planes, 24, 7, 5)]
    wanted = blocks.reshape(24, planes.bytes)[7:12]
    np.testing.assert_array_equal(np.concatenate(fields, axis=1), wanted)
