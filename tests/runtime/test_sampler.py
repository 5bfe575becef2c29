"""Sampling held against a plain oracle: sort everything, cut, renormalize, draw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ferrum.runtime.sampler import (
    Sampler,
    SamplingError,
    SamplingParams,
    candidates,
    position,
)


def oracle(logits: np.ndarray, params: SamplingParams) -> dict[int, float]:
    """Each token's probability of being drawn, by the definitions, in float64."""
    scaled = logits.astype(np.float64) / params.temperature
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    if params.top_k:
        order = order[: params.top_k]
    weights = np.exp(scaled[order] - scaled[order[0]])
    weights /= weights.sum()
    kept, mass = [], 0.0
    for token, weight in zip(order, weights, strict=True):
        if params.top_p < 1 and mass >= params.top_p:
            break
        kept.append((token, weight))
        mass += weight
    best = kept[0][1]
    kept = [(token, weight) for token, weight in kept if weight >= params.min_p * best]
    total = sum(weight for _, weight in kept)
    return {token: weight / total for token, weight in kept}


def random_logits(size: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * 3).astype(np.float32)


CUTS: list[dict[str, Any]] = [
    {},
    {"top_k": 1},
    {"top_k": 20},
    {"top_k": 10_000},
    {"top_p": 0.9},
    {"top_p": 0.999},
    {"min_p": 0.1},
    {"top_k": 50, "top_p": 0.8},
    {"top_k": 50, "top_p": 0.95, "min_p": 0.05},
    {"top_p": 0.5, "min_p": 0.3},
]


@pytest.mark.parametrize("size", [3, 300, 5000])
@pytest.mark.parametrize("temperature", [0.3, 0.8, 2.0])
@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_candidates_are_those_of_the_definition(
    size: int, temperature: float, cuts: dict[str, Any]
) -> None:
    logits = random_logits(size, size)
    params = SamplingParams(temperature=temperature, **cuts)
    tokens, weights = candidates(logits, params)
    wanted = oracle(logits, params)
    assert sorted(tokens.tolist()) == sorted(wanted)
    shares = weights / weights.sum(dtype=np.float64)
    # Weights are float32 exponentials: relative error of a few 2^-24 times the exponent.
    np.testing.assert_allclose(shares, [wanted[int(t)] for t in tokens], rtol=1e-4)


@pytest.mark.parametrize("cuts", [{}, {"top_k": 5}, {"top_p": 0.9}], ids=str)
def test_draws_come_as_often_as_they_should(cuts: dict[str, Any]) -> None:
    logits = random_logits(700, 4)
    params = SamplingParams(temperature=1.0, seed=9, **cuts)
    sampler, counts, draws = Sampler(params, [], 700), np.zeros(700), 4000
    for _ in range(draws):
        counts[sampler.pick(logits, [])] += 1
    wanted = oracle(logits, params)
    assert set(np.flatnonzero(counts)) <= set(wanted)
    for token, probability in sorted(wanted.items(), key=lambda item: -item[1])[:10]:
        # Five standard deviations of a binomial count; the seed is fixed.
        deviation = math.sqrt(draws * probability * (1 - probability))
        assert abs(counts[token] - draws * probability) <= 5 * deviation + 1e-9


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    logits = np.array([1, 7, 3, 7, 0], np.float32)
    assert Sampler(SamplingParams(), [], 5).pick(logits, []) == 1


def test_a_seed_decides_and_neighbours_do_not() -> None:
    params = SamplingParams(temperature=1.5, seed=11)
    rows = [random_logits(500, i) for i in range(20)]
    alone, amid = Sampler(params, [], 500), Sampler(params, [], 500)
    other = Sampler(SamplingParams(temperature=1.5, seed=12), [], 500)
    picked = [alone.pick(row, []) for row in rows]
    between = []
    for row in rows:
        other.pick(row, [])
        between.append(amid.pick(row, []))
    assert between == picked


def test_without_a_seed_two_samplers_differ() -> None:
    flat = np.zeros(4096, np.float32)
    params = SamplingParams(temperature=1.0)
    drawn = [[Sampler(params, [], 4096).pick(flat, []) for _ in range(4)] for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_repetition_penalty_counts_prompt_and_text_once() -> None:
    params = SamplingParams(repetition_penalty=2.0)
    sampler = Sampler(params, [0, 0, 2], 4)
    # 0: 6 / 2 = 3; 2: -1 * 2 = -2; the others stay.
    assert sampler.pick(np.array([6, 4, -1, 0], np.float32), []) == 1
    # 1 has come up: 5 / 2 = 2.5 falls behind 0's 3, and 0 is still divided only once.
    assert sampler.pick(np.array([6, 5, -1, 0], np.float32), []) == 0
    assert sampler.pick(np.array([6, 5, -1, 2.9], np.float32), []) == 0


def test_presence_counts_once_and_frequency_every_time() -> None:
    logits = np.array([10, 9, 0], np.float32)
    once = Sampler(SamplingParams(presence_penalty=1.5), [0], 3)
    assert [once.pick(logits, []) for _ in range(3)] == [0, 1, 0]
    often = Sampler(SamplingParams(frequency_penalty=0.6), [0], 3)
    assert [often.pick(logits, []) for _ in range(4)] == [0, 0, 1, 0]


def test_the_mask_sees_the_text_and_decides() -> None:
    seen: list[list[int]] = []

    def only_after(generated: Any) -> np.ndarray | None:
        seen.append(list(generated))
        return None if not generated else np.array([False, False, True])

    sampler = Sampler(SamplingParams(mask=only_after), [], 3)
    logits = np.array([3, 2, 1], np.float32)
    assert [sampler.pick(logits, []), sampler.pick(logits, [0])] == [0, 2]
    assert seen == [[], [0]]


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (np.zeros(3, np.bool_), "no token"),
        (np.zeros(2, np.bool_), r"bool\[2\] -> bool\[3\]"),
        (np.ones(3, np.int64), r"int64\[3\] -> bool\[3\]"),
    ],
)
def test_a_mask_that_leaves_nothing_or_does_not_fit_is_an_error(
    mask: np.ndarray, sentence: str
) -> None:
    for temperature in (0.0, 1.0):
        params = SamplingParams(temperature=temperature, mask=lambda _: mask)
        with pytest.raises(SamplingError, match=sentence):
            Sampler(params, [], 3).pick(np.zeros(3, np.float32), [])


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error(temperature: float, bad: float) -> None:
    logits = np.array([0, bad, 1], np.float32)
    with pytest.raises(SamplingError, match="a number"):
        Sampler(SamplingParams(temperature=temperature), [], 3).pick(logits, [])


def test_a_masked_token_is_never_drawn() -> None:
    allowed = np.arange(600) % 7 == 0
    params = SamplingParams(temperature=3.0, seed=1, mask=lambda _: allowed)
    sampler = Sampler(params, [], 600)
    assert all(allowed[sampler.pick(random_logits(600, i), [])] for i in range(200))


@given(
    weights=st.lists(st.integers(0, 3), min_size=1, max_size=300).filter(any),
    repeats=st.sampled_from([1, 9]),
    u=st.floats(0, 1, exclude_max=True),
)
@example(weights=[0, 1], repeats=1, u=0.0)
@example(weights=[1, 1], repeats=1, u=0.5)
def test_a_draw_is_where_the_running_sum_passes_it(
    weights: list[int], repeats: int, u: float
) -> None:
    array = np.tile(np.array(weights, np.float32), repeats)  # small whole numbers: sums are exact
    sums = np.cumsum(array, dtype=np.float64)
    target = min(u * sums[-1], np.nextafter(sums[-1], 0))
    at = position(array, u)
    assert at == next(i for i, total in enumerate(sums) if total > target)
    assert array[at] > 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temperatur": 1.0}, "temperatur -> one of .*temperature"),
        ({"temperature": -1.0}, "temperature, got -1.0 -> greater than or equal to 0"),
        ({"temperature": math.nan}, "temperature, got nan"),
        ({"temperature": "hot"}, "temperature, got 'hot'"),
        ({"top_p": 0.0}, "top_p, got 0.0 -> greater than 0"),
        ({"top_p": 1.1}, "top_p, got 1.1 -> less than or equal to 1"),
        ({"top_k": 1.5}, "top_k, got 1.5"),
        ({"top_k": True}, "top_k, got True"),
        ({"max_tokens": 0}, "max_tokens, got 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty, got 0.0"),
        (
            {"repetition_penalty": 1e300},
            "repetition_penalty, got 1e.300 -> less than or eq",
        ),
        ({"presence_penalty": 1e300}, "presence_penalty, got 1e.300 -> less than or eq"),
        ({"frequency_penalty": -1e300}, "frequency_penalty, got -1e.300 -> greater than or equal"),
        ({"stop": [""]}, "stop, got .* -> strings that are not empty"),
        ({"stop": [3]}, "stop"),
        ({"mask": 3}, "mask"),
    ],
)
def test_a_bad_parameter_is_named_in_one_line(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SamplingError, match=sentence) as caught:
        SamplingParams(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("temperature", [1e-320, 1e-39, 1e-21, 1e-20, 1e-6])
@pytest.mark.parametrize("cut", [{}, {"top_k": 2}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_next_to_no_temperature_takes_the_likeliest(
    temperature: float, cut: dict[str, Any]
) -> None:
    sampler = Sampler(SamplingParams(temperature=temperature, seed=1, **cut), [], 4)
    assert sampler.pick(np.array([1, 30, 20, -50], np.float32), []) == 1


def test_parameters_take_what_people_write() -> None:
    params = SamplingParams(stop="\n", stop_token_ids=[1, 2], temperature=1, max_tokens=None)
    assert params.stop == ("\n",)
    assert params.stop_token_ids == (1, 2)


def test_only_the_likeliest_are_as_likely_as_the_likeliest() -> None:
    logits = np.array([1, 5, 2, 5], np.float32)
    sampler = Sampler(SamplingParams(temperature=1.0, min_p=1.0, seed=1), [], 4)
    assert {sampler.pick(logits, []) for _ in range(30)} == {1, 3}


def test_rounding_draws_no_token_without_weight() -> None:
    rng = np.random.default_rng(9)
    weights = (rng.random(1000) * np.exp(-rng.random(1000) * 30)).astype(np.float32)
    weights[0], weights[-100:] = 1, 0
    assert weights[position(weights, float(np.nextafter(1.0, 0.0)))] > 0
