"""Norms and RouteTopK on the CUDA kernels."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_node import run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import rms_norm
from route_cases import K4, USELESS, check_definition, check_ties, check_useless


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
    check_definition(run, tokens, experts, k, normalize, scale)


@pytest.mark.parametrize("experts", [1024, 1025, 1500])
def test_more_experts_than_a_warp_holds_are_routed(experts: int) -> None:
    check_definition(run, 5, experts, 40, True, 2.5)


def test_ties_go_to_the_lower_id() -> None:
    check_ties(run, 128)


@pytest.mark.parametrize("row", USELESS)
def test_a_sum_that_is_no_use_gives_equal_weights_and_valid_ids(row: list[float]) -> None:
    check_useless(run, row)


def test_more_experts_chosen_than_there_are_is_refused() -> None:
    with pytest.raises(Exception, match="expected at least k = 4 experts in dimension 1"):
        run("RouteTopK", {"logits": np.zeros((2, 3), np.float32)}, K4)
