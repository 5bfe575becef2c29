"""What requests ask for, as sampling parameters."""

from __future__ import annotations

from typing import Any

import pytest

from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.protocol.completions import CompletionRequest


def params(choice: int = 0, **fields: Any) -> SamplingParams:
    """How a choice is sampled whose request has these fields."""
    asked = CompletionRequest(prompt="a", **fields)
    return asked.params(choice, max_tokens=None, logprobs=None)


def test_openais_defaults_hold() -> None:
    assert params() == SamplingParams(temperature=1.0, max_tokens=None)


def test_a_seed_is_each_choices_own_and_minus_one_is_none() -> None:
    assert (params(seed=7).seed, params(2, seed=7).seed) == (7, 9)
    assert params(seed=-2).seed == (1 << 64) - 2
    assert params(1, seed=-2).seed == (1 << 64) - 1
    assert params(seed=-1).seed is params(1, seed=-1).seed is None


def test_minus_one_tokens_to_draw_from_are_all() -> None:
    assert [params(top_k=k).top_k for k in (-1, 0, 5)] == [0, 0, 5]
    with pytest.raises(ApiError, match=r"top_k, got -2 -> greater than or equal to -1"):
        CompletionRequest.read(b'{"prompt": "a", "top_k": -2}')


def test_no_share_to_draw_from_is_the_likeliest_token() -> None:
    greedy = params(top_p=0)
    assert (greedy.temperature, greedy.top_p) == (0.0, 1.0)
    assert (params(top_p=0.5).temperature, params(top_p=0.5).top_p) == (1.0, 0.5)
