"""The bounds: wide enough for honest arithmetic, narrow enough to see one wrong group."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from oracle import moe

from ferrum.builder.check import bounds


def int8_rounded(x: np.ndarray, group: int = 32) -> np.ndarray:
    """Activations as int8 with a scale per group hold them."""
    groups = x.reshape(len(x), -1, group)
    scale = np.abs(groups).max(-1, keepdims=True) / 127
    return (np.rint(groups / scale) * scale).reshape(x.shape)


def bfloat16_rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(ml_dtypes.bfloat16).astype(float)


def grid(rng: np.random.Generator, tokens: int, columns: int) -> np.ndarray:
    codes = rng.integers(-127, 128, (tokens, columns)).astype(float)
    codes[:, ::32] = 127
    return codes / 64


@pytest.mark.parametrize("columns", [32, 256, 2048])
def test_products_in_float32_and_int8_stay_inside(columns: int) -> None:
    rng = np.random.default_rng(columns)
    x = rng.standard_normal((8, columns)).astype(np.float32).astype(float)
    matrix = rng.standard_normal((64, columns)).astype(np.float32).astype(float)
    exact = x @ matrix.T
    single = x.astype(np.float32) @ matrix.astype(np.float32).T
    assert (np.abs(single - exact) <= bounds.linear(x, matrix, int8=False)).all()
    for group in {32, min(columns, 128)}:
        off = np.abs(int8_rounded(x, group) @ matrix.T - exact)
        bound = bounds.linear(x, matrix, int8=True, group=group)
        assert (off <= bound).all()
        assert (off > bound / 10).any()


@pytest.mark.parametrize("columns", [32, 256, 2048])
def test_products_of_activations_rounded_to_bfloat16_stay_inside(columns: int) -> None:
    rng = np.random.default_rng(columns)
    x = rng.standard_normal((8, columns)).astype(np.float32).astype(float)
    matrix = rng.standard_normal((64, columns))
    off = np.abs(bfloat16_rounded(x) @ matrix.T - x @ matrix.T)
    bound = bounds.linear(x, matrix, int8=False, bfloat16=True)
    assert (off <= bound).all()
    assert (off > bound / 20).any()


def test_activations_in_bfloat16_have_no_step() -> None:
    x = bfloat16_rounded(np.random.default_rng(0).standard_normal((2, 96)))
    x[0, :3] = [0, -1, 2.0**-100]
    assert not bounds.bfloat16_step(x).any()
    x[1, 40] *= 1 + 2.0**-8
    assert bounds.bfloat16_step(x).nonzero()[1].tolist() == [40]


def test_one_group_with_a_wrong_scale_is_outside() -> None:
    rng = np.random.default_rng(0)
    x, matrix = grid(rng, 3, 2048), rng.standard_normal((64, 2048))
    wrong = matrix.copy()
    wrong[5, 64:96] *= 1.25
    bound = bounds.linear(x, matrix, int8=True)
    assert (np.abs(x @ wrong.T - x @ matrix.T) > bound)[:, 5].any()


def test_activations_on_the_grid_have_no_step() -> None:
    x = grid(np.random.default_rng(0), 2, 96)
    assert not bounds.int8_step(x).any()
    x[1, 40] += 1e-3
    assert bounds.int8_step(x).nonzero()[1].tolist() == list(range(32, 64))
    assert bounds.int8_step(np.zeros((1, 32))).sum() == 0


def test_experts_in_int8_stay_inside_and_one_wrong_group_does_not() -> None:
    rng = np.random.default_rng(1)
    x = grid(rng, 3, 256)
    weights = rng.dirichlet(np.ones(2), 3)
    ids = np.array([[0, 1], [1, 0], [0, 1]], np.int32)
    gate, up, down = (rng.standard_normal((2, 256, 256)) / 16 for _ in range(3))
    bound = bounds.experts(x, weights, ids, (gate, up, down), (True, True, True))
    wanted = moe(x, weights, ids, gate, up, down)
    rounded = np.zeros_like(x)
    for t, (row, share) in enumerate(zip(x, weights, strict=True)):
        for w, e in zip(share, ids[t], strict=True):
            g = gate[e] @ row
            hidden = int8_rounded((g / (1 + np.exp(-g)) * (up[e] @ row))[None])
            rounded[t] += w * (down[e] @ hidden[0])
    off = np.abs(rounded - wanted)
    assert (off <= bound).all()
    assert (off > bound / 10).any()
    spoilt = down.copy()
    spoilt[1, 7, 64:96] *= 2
    assert (np.abs(moe(x, weights, ids, gate, up, spoilt) - wanted) > bound)[:, 7].any()
