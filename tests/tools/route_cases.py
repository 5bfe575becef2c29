"""What RouteTopK promises, whoever runs the node: `run` of native_node or cuda_node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from oracle import route

Run = Callable[..., list[np.ndarray]]

K4: dict[str, Any] = {"k": 4, "normalize": 1, "scale": 1.0}
# Logits whose probabilities have no sum that could be divided by.
USELESS = (
    [np.nan] * 6,
    [-np.inf] * 6,
    [np.inf] * 6,
    [0, np.nan, 1, 2, 3, 4],
    [np.inf, 0, 1, 2, 3, 4],
)


def check_definition(
    run: Run, tokens: int, experts: int, k: int, normalize: bool, scale: float
) -> None:
    """The definition's order, and its weights."""
    logits = np.random.default_rng(experts).standard_normal((tokens, experts)) * 3
    logits = logits.astype(np.float32)
    attributes = {"k": k, "normalize": int(normalize), "scale": scale}
    weights, chosen = run("RouteTopK", {"logits": logits}, attributes)
    wanted, order = route(logits, k, normalize, scale)
    np.testing.assert_array_equal(chosen, order)
    np.testing.assert_allclose(weights, wanted, rtol=2e-5, atol=1e-12)


def check_ties(run: Run, experts: int) -> None:
    """Of equal ones the lower id comes first; `experts` that are all equal too."""
    logits = np.array([[1, 2, 2, 0, 2, 1, 1, 1]], np.float32)
    weights, chosen = run("RouteTopK", {"logits": logits}, K4)
    assert chosen.tolist() == [[1, 2, 4, 0]]
    assert weights[0, 0] == weights[0, 1] == weights[0, 2]
    same = run("RouteTopK", {"logits": np.zeros((3, experts), np.float32)}, K4)[1]
    assert same.tolist() == [[0, 1, 2, 3]] * 3


def check_useless(run: Run, row: list[float]) -> None:
    """Equal weights and valid ids; the other token is none the wiser."""
    logits = np.array([row, [0, 1, 2, 3, 4, 5]], np.float32)
    weights, chosen = run("RouteTopK", {"logits": logits}, K4)
    assert weights[0].tolist() == [0.25] * 4
    assert sorted(set(chosen[0])) == sorted(chosen[0])
    assert ((chosen >= 0) & (chosen < 6)).all()
    assert chosen[1].tolist() == [5, 4, 3, 2]
