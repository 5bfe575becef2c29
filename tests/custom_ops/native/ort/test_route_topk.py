"""RouteTopK on the library: the contract's order and weights, whatever the logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_node import run, session
from oracle import route

K4 = {"k": 4, "normalize": 1, "scale": 1.0}


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(0, 20),
    experts=st.integers(1, 130),
    normalize=st.booleans(),
    scale=st.sampled_from([1.0, 2.5, -0.5]),
    data=st.data(),
)
def test_routing_equals_its_definition(
    tokens: int, experts: int, normalize: bool, scale: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, experts))
    logits = np.random.default_rng(experts).standard_normal((tokens, experts)) * 3
    logits = logits.astype(np.float32)
    attributes = {"k": k, "normalize": int(normalize), "scale": scale}
    weights, chosen = run("RouteTopK", {"logits": logits}, attributes)
    wanted, order = route(logits, k, normalize, scale)
    np.testing.assert_array_equal(chosen, order)
    np.testing.assert_allclose(weights, wanted, rtol=2e-5, atol=1e-12)


def test_ties_go_to_the_lower_id() -> None:
    logits = np.array([[1, 2, 2, 0, 2, 1, 1, 1]], np.float32)
    weights, chosen = run("RouteTopK", {"logits": logits}, K4)
    assert chosen.tolist() == [[1, 2, 4, 0]]
    assert weights[0, 0] == weights[0, 1] == weights[0, 2]
    same = run("RouteTopK", {"logits": np.zeros((3, 8), np.float32)}, K4)[1]
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


def test_minus_infinity_is_an_expert_that_is_never_chosen() -> None:
    logits = np.array([[-np.inf, 1, -np.inf, 2]], np.float32)
    weights, chosen = run("RouteTopK", {"logits": logits}, {"k": 2, "normalize": 1, "scale": 1.0})
    assert chosen.tolist() == [[3, 1]]
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)


def test_more_experts_chosen_than_there_are_is_refused() -> None:
    message = (
        r"\[RouteTopK\] blk.0.route: input logits, got shape \[2, 3\], expected at least k = 4"
    )
    with pytest.raises(Exception, match=message):
        run("RouteTopK", {"logits": np.zeros((2, 3), np.float32)}, K4, name="blk.0.route")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "attribute k, got 0, expected 1 to"),
        ({"k": -3}, "attribute k, got -3, expected 1 to"),
        ({"normalize": 2}, "attribute normalize, got 2, expected 0 to 1"),
        ({"scale": float("nan")}, "attribute scale, got nan, expected a finite number"),
    ],
)
def test_attributes_out_of_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(Exception, match=rf"\[RouteTopK\] node: {message}"):
        session("RouteTopK", K4 | change)


@pytest.mark.parametrize("missing", ["k", "normalize", "scale"])
def test_missing_attributes_are_refused(missing: str) -> None:
    attributes = {name: value for name, value in K4.items() if name != missing}
    with pytest.raises(Exception, match=rf"\[RouteTopK\] node: attribute {missing} is missing"):
        session("RouteTopK", attributes)
