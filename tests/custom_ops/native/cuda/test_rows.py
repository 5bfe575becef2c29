"""Norms and RouteTopK on the CUDA kernels."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_node import run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import rms_norm, route

K4 = {"k": 4, "normalize": 1, "scale": 1.0}


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(0, 9), columns=st.integers(1, 3000), seed=st.integers(0, 9))
def test_norms_equal_their_definition(tokens: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, residual = rng.standard_normal((2, tokens, columns)).astype(np.float32)
    weight = rng.uniform(0.5, 1.5, columns).astype(np.float32)
    alone = run("RMSNorm", {"x": x, "weight": weight}, {"epsilon": 1e-6})[0]
    np.testing.assert_allclose(alone, rms_norm(x, weight, 1e-6), rtol=3e-6, atol=1e-6)
    feeds = {"x": x, "residual": residual, "weight": weight}
    normed, total = run("AddRMSNorm", feeds, {"epsilon": 1e-6})
    np.testing.assert_array_equal(total, x + residual)
    np.testing.assert_allclose(normed, rms_norm(total, weight, 1e-6), rtol=3e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(0, 12),
    experts=st.sampled_from([1, 2, 31, 32, 33, 60, 128, 257, 512, 1500]),
    normalize=st.booleans(),
    scale=st.sampled_from([1.0, 2.5, -0.5]),
    data=st.data(),
)
def test_routing_equals_its_definition(
    tokens: int, experts: int, normalize: bool, scale: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(experts, 40)))
    logits = np.random.default_rng(experts).standard_normal((tokens, experts)) * 3
    logits = logits.astype(np.float32)
    weights, chosen = run(
        "RouteTopK", {"logits": logits}, {"k": k, "normalize": int(normalize), "scale": scale}
    )
    wanted, order = route(logits, k, normalize, scale)
    np.testing.assert_array_equal(chosen, order)
    np.testing.assert_allclose(weights, wanted, rtol=2e-5, atol=1e-12)


def test_ties_go_to_the_lower_id() -> None:
    logits = np.array([[1, 2, 2, 0, 2, 1, 1, 1]], np.float32)
    weights, chosen = run("RouteTopK", {"logits": logits}, K4)
    assert chosen.tolist() == [[1, 2, 4, 0]]
    assert weights[0, 0] == weights[0, 1] == weights[0, 2]
    same = run("RouteTopK", {"logits": np.zeros((3, 128), np.float32)}, K4)[1]
    assert same.tolist() == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize(
    "row",
    [
        [np.nan] * 6,
        [-np.inf] * 6,
        [np.inf] * 6,
        [0, np.nan, 1, 2, 3, 4],
        [np.inf, 0, 1, 2, 3, 4],
    ],
)
def test_a_sum_that_is_no_use_gives_equal_weights_and_valid_ids(row: list[float]) -> None:
    logits = np.array([row, [0, 1, 2, 3, 4, 5]], np.float32)
    weights, chosen = run("RouteTopK", {"logits": logits}, K4)
    assert weights[0].tolist() == [0.25] * 4
    assert sorted(set(chosen[0])) == sorted(chosen[0])
    assert ((chosen >= 0) & (chosen < 6)).all()
    assert chosen[1].tolist() == [5, 4, 3, 2]  # the other token is none the wiser


def test_more_experts_chosen_than_there_are_is_refused() -> None:
    with pytest.raises(Exception, match="expected at least k = 4 experts in dimension 1"):
        run("RouteTopK", {"logits": np.zeros((2, 3), np.float32)}, K4)
