"""Matrices of blocks to planes and back: the same bytes, regrouped by the fields of a block."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import numpy.typing as npt

from ferrum.custom_ops.quants import Quant

Bytes = npt.NDArray[np.uint8]


def to_planes(quant: Quant, matrices: Bytes) -> Bytes:
    """uint8[..., rows, row bytes] of blocks as their type's planes, matrix by matrix."""
    outer = matrices.shape[:-2]
    fields = np.split(matrices.reshape(*outer, -1, quant.bytes), cuts(quant), axis=-1)
    return np.concatenate([field.reshape(*outer, -1) for field in fields], -1).reshape(
        matrices.shape
    )


def to_blocks(quant: Quant, matrices: Bytes) -> Bytes:
    """What `to_planes` was given."""
    flat = matrices.reshape(*matrices.shape[:-2], -1)
    count = flat.shape[-1] // quant.bytes
    fields = [
        flat[..., offset : offset + size].reshape(*flat.shape[:-1], count, -1)
        for offset, size in strips(quant, count, 0, count)
    ]
    return np.concatenate(fields, -1).reshape(matrices.shape)


def strips(quant: Quant, blocks: int, first: int, count: int) -> list[tuple[int, int]]:
    """Where a matrix of `blocks` has the fields of blocks first .. first + count: for each field
    the offset and length of a run of bytes."""
    begins = [0, *cuts(quant)]
    return [
        (blocks * begin + first * size, count * size)
        for begin, size in zip(begins, quant.fields, strict=True)
    ]


def cuts(quant: Quant) -> list[int]:
    """Where in a block its fields but the first begin."""
    return list(accumulate(quant.fields))[:-1]
