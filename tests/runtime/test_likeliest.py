"""What a GPU finds of a row chooses the very tokens that the whole row would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.likeliest import MOST, Likeliest
from ferrum.runtime.logprobs import token_logprobs
from ferrum.runtime.sampler import Sampler, SamplingParams, candidates, candidates_among


def found(logits: np.ndarray, scale: float = 1.0, most: int = MOST) -> Likeliest | None:
    """What a GPU would find, ties in whatever order."""
    order = np.argsort(logits)[::-1][:most]
    total = np.exp((logits.astype(np.float64) - logits.max()) * scale).sum()
    return Likeliest.of(
        logits[order], order.astype(np.float32), float(total), np.float32(scale), logits.size
    )


def random_logits(size: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * 3).astype(np.float32)


CUTS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"top_k": 1},
    {"top_k": 20},
    {"top_k": 63},
    {"top_k": 64},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"min_p": 0.1},
    {"min_p": 0.001},
    {"top_k": 50, "top_p": 0.8, "min_p": 0.05},
    {"top_p": 0.5, "min_p": 0.3},
]


@pytest.mark.parametrize("size", [3, 64, 300, 20_000])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_seed_draws_the_same_from_the_likeliest_as_from_all(
    size: int, temperature: float, cuts: dict[str, Any]
) -> None:
    params = SamplingParams(**{"temperature": temperature, "seed": 3, **cuts})
    all_of_them, few = (Sampler(params, [], size) for _ in range(2))
    decided = 0
    assert few.scale is not None
    for seed in range(30):
        logits = random_logits(size, seed)
        likeliest = found(logits, few.scale)
        assert likeliest is not None
        token = few.pick_among(likeliest)
        decided += token is not None
        if token is None:  # as a request does
            token = few.pick(logits, [])
        assert token == all_of_them.pick(logits, [])
    if size <= MOST or cuts.get("top_k", 64) < MOST or cuts.get("temperature") == 0.0:
        assert decided == 30


@pytest.mark.parametrize("cuts", CUTS[1:], ids=str)
def test_candidates_are_the_same_bits(cuts: dict[str, Any]) -> None:
    params = SamplingParams(temperature=0.4, **cuts)
    logits = random_logits(5000, 1)
    likeliest = found(logits, 1 / 0.4)
    assert likeliest is not None
    narrow = candidates_among(likeliest, params)
    if narrow is None:
        assert cuts.get("top_k") == 64  # whether the last ties with the one after is not known
        return
    tokens, weights = candidates(logits, params)
    assert narrow[0].tolist() == tokens.tolist()
    assert np.array_equal(narrow[1], weights)


@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=200),
    top_k=st.integers(0, 12),
    temperature=st.sampled_from([0.0, 1.0]),
)
def test_ties_never_change_a_token(values: list[int], top_k: int, temperature: float) -> None:
    logits = np.array(values, np.float32)
    params = SamplingParams(temperature=temperature, top_k=top_k, seed=1)
    few = Sampler(params, [], logits.size)
    likeliest = found(logits, most=min(8, logits.size))
    assert likeliest is not None
    token = few.pick_among(likeliest) if few.scale else None
    if token is not None:
        assert token == Sampler(params, [], logits.size).pick(logits, [])


def test_what_lies_at_the_border_is_left_out() -> None:
    likeliest = found(np.array([5, 1, 3, 1, 1, 4], np.float32), most=4)
    assert likeliest is not None
    assert likeliest.tokens.tolist() == [0, 5, 2]
    assert (likeliest.floor, likeliest.complete) == (1.0, False)


@pytest.mark.parametrize(
    "params",
    [{"temperature": 1.0}, {"temperature": 1.0, "top_k": 65},
     {"temperature": 1.0, "top_k": 5, "repetition_penalty": 1.1}, {"presence_penalty": 0.5},
     {"mask": lambda _: None}],
    ids=lambda p: " ".join(p),
)  # fmt: skip
def test_draws_that_need_everything_say_so(params: dict[str, Any]) -> None:
    assert Sampler(SamplingParams(**params), [], 100).scale is None


@pytest.mark.parametrize("total", [np.nan, np.inf])
def test_logits_that_are_no_numbers_have_no_likeliest(total: float) -> None:
    values, ids = np.array([3, 2], np.float32), np.array([1, 0], np.float32)
    assert Likeliest.of(values, ids, total, np.float32(1), 10) is None
    assert Likeliest.of(values, np.array([1, np.nan], np.float32), 1.5, np.float32(1), 10) is None
    assert Likeliest.of(values, np.array([1, 10], np.float32), 1.5, np.float32(1), 10) is None


def test_logprobs_are_those_of_the_whole_row() -> None:
    logits = random_logits(3000, 7)
    likeliest = found(logits)
    assert likeliest is not None
    token = int(likeliest.tokens[4])
    known, wanted = likeliest.logprobs(token, 5), token_logprobs(logits, token, 5)
    assert known is not None
    assert known.logprob == pytest.approx(wanted.logprob, abs=1e-6)
    assert [t for t, _ in known.top] == [t for t, _ in wanted.top]
    assert [p for _, p in known.top] == pytest.approx([p for _, p in wanted.top], abs=1e-6)
    assert likeliest.logprobs(int(logits.argmin()), 0) is None
    assert likeliest.logprobs(token, 65) is None
    warmer = found(logits, 0.5)
    assert warmer is not None
    assert warmer.logprobs(token, 5) is None
