"""RouteTopK on the library: the contract's order and weights, whatever the logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_node import run, session
from route_cases import K4, USELESS, check_definition, check_ties, check_useless


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
    check_definition(run, tokens, experts, k, normalize, scale)


def test_ties_go_to_the_lower_id() -> None:
    check_ties(run, 8)


@pytest.mark.parametrize("row", USELESS)
def test_a_sum_that_is_no_use_gives_equal_weights_and_valid_ids(row: list[float]) -> None:
    check_useless(run, row)


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
