"""Quantizing, norms, SiLU and attention against float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ferrum.custom_ops.library import describe
from ferrum.custom_ops.quants import QUANTS

EPSILON = 2.0**-24
LARGEST = 4095  # of attention's integers, for up to 128 products
CACHES = {0: np.dtype(np.float32), 1: np.dtype(np.float16), 30: np.dtype(ml_dtypes.bfloat16)}


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


Q8_0, Q2_K, Q4_K, Q6_K = (QUANTS.by_name(name).id for name in ("Q8_0", "Q2_K", "Q4_K", "Q6_K"))
# A type of each way to take activations: how many share a scale, and which sums of their codes.
FORMS = {
    "offsets": (Q8_0, "fine", 32),
    "offsets of halves": (Q6_K, "fine", 32),
    "minimums": (Q4_K, "fine", 32),
    "minimums of halves": (Q2_K, "fine", 32),
    "integers": (Q4_K, "even", 128),
}
each_form = pytest.mark.parametrize(("type_id", "kind", "span"), FORMS.values(), ids=FORMS)


@each_form
@pytest.mark.parametrize("k", [1, 31, 32, 33, 128, 256, 2048 + 7])
def test_quantize_rounds_to_nearest_and_fills_with_zeros(
    kernels: Any, isa: str, k: int, type_id: int, kind: str, span: int
) -> None:
    x = normal(k) * 3
    q, scale, _ = kernels.quantize(isa, type_id, x, kind)
    padded = np.zeros(q.size, np.float32)
    padded[:k] = x
    groups = padded.reshape(-1, 32)
    largest = np.abs(padded).reshape(-1, span).max(1)
    np.testing.assert_array_equal(scale, np.repeat(largest / np.float32(127), span // 32))
    # Half a step, and the two roundings of the product.
    error = np.abs(q * scale[:, None].astype(np.float64) - groups)
    assert (error <= scale[:, None] * (0.5 + 127 * 2 * EPSILON)).all()
    assert not q.ravel()[k:].any()


@pytest.mark.parametrize("form", FORMS)
def test_sums_of_codes_come_as_each_type_multiplies_them(kernels: Any, isa: str, form: str) -> None:
    type_id, kind, _ = FORMS[form]
    q, scale, sums = kernels.quantize(isa, type_id, normal(512), kind)
    halves = q.astype(np.int32).reshape(-1, 2, 16).sum(2)
    if "halves" not in form:
        halves = np.stack([halves.sum(1), np.zeros(len(q), np.int32)], 1)
    if "offsets" in form:  # by the instruction set: where codes keep their sign there is none
        wide = 128 if isa == "avx512" else 0
        offset = 0 if isa == "generic" else {Q8_0: wide, Q6_K: 32}[type_id]
        np.testing.assert_array_equal(sums, -offset * halves)
    elif form == "integers":
        np.testing.assert_array_equal(sums, halves)
    else:
        expected = scale[:, None] * halves.astype(np.float32)
        np.testing.assert_array_equal(sums.view(np.float32), expected)


@each_form
def test_quantize_gives_the_same_bits_on_every_isa(
    kernels: Any, isa: str, type_id: int, kind: str, span: int
) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2**32, 4096 + 5, dtype=np.uint32).view(np.float32).copy()
    x[:1024] = rng.standard_normal(1024)
    x[1024 : 1024 + span] = 0
    x[1280 : 1280 + span] = np.arange(span) * 0.5 - span // 4  # ties
    x[1536 : 1536 + span] *= np.float32(1e-41)
    got = kernels.quantize(isa, type_id, x, kind)
    expected = kernels.quantize("generic", type_id, x, kind)
    same = 2 if type_id in (Q8_0, Q6_K) else 3  # offsets are the instruction set's own
    for ours, theirs in zip(got[:same], expected[:same], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@each_form
def test_quantize_of_zeros_tiny_and_not_finite_values(
    kernels: Any, isa: str, type_id: int, kind: str, span: int
) -> None:
    x = np.zeros(4 * span, np.float32)
    x[span : 2 * span], x[2 * span + 6], x[3 * span + 4] = 1e-40, np.nan, -np.inf
    q, scale, sums = kernels.quantize(isa, type_id, x, kind)
    assert not q.any()
    assert not sums[: 2 * span // 32].any()
    np.testing.assert_array_equal(scale, np.repeat([0, 0, np.nan, np.nan], span // 32))


@pytest.mark.parametrize("n", [1, 15, 16, 64, 100, 2048])
def test_rms_norm(kernels: Any, isa: str, n: int) -> None:
    x, weight, y = normal(n), normal(n, seed=1), np.empty(n, np.float32)
    kernels.call("ferrum_test_rms_norm", isa.encode(), x, weight, n, _float(1e-6), y)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean() + 1e-6) * weight
    np.testing.assert_allclose(y, expected, rtol=(8 + n / 4) * EPSILON)


def test_rms_norm_in_place_gives_the_same_bits(kernels: Any, isa: str) -> None:
    x, weight, y = normal(77), normal(77, seed=1), np.empty(77, np.float32)
    kernels.call("ferrum_test_rms_norm", isa.encode(), x, weight, 77, _float(1e-6), y)
    kernels.call("ferrum_test_rms_norm", isa.encode(), x, weight, 77, _float(1e-6), x)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("n", [1, 15, 32, 64, 100, 256])
def test_weighted_sum(kernels: Any, isa: str, n: int, count: int) -> None:
    rows, weights, out = normal(count, n), normal(count), np.empty(n, np.float32)
    kernels.call("ferrum_test_weighted_sum", isa.encode(), rows, weights, count, n, out)
    largest = np.abs(weights.astype(np.float64)) @ np.abs(rows)
    assert (np.abs(out - weights.astype(np.float64) @ rows) <= 2 * count * EPSILON * largest).all()


def test_an_element_of_a_weighted_sum_does_not_depend_on_its_neighbours(
    kernels: Any, isa: str
) -> None:
    rows, weights, whole = normal(8, 101), normal(8), np.empty(101, np.float32)
    kernels.call("ferrum_test_weighted_sum", isa.encode(), rows, weights, 8, 101, whole)
    for first, end in ((0, 64), (64, 96), (3, 90), (96, 101)):
        part = np.empty(end - first, np.float32)
        own = np.ascontiguousarray(rows[:, first:end])
        kernels.call("ferrum_test_weighted_sum", isa.encode(), own, weights, 8, part.size, part)
        np.testing.assert_array_equal(part, whole[first:end])


@pytest.mark.parametrize("n", [1, 7, 16, 33, 1000])
def test_silu_multiply(kernels: Any, isa: str, n: int) -> None:
    gate, up = normal(n) * 20, normal(n, seed=1)
    gate[0] = -300.0  # exp overflows: the result is -0
    wide = gate.astype(np.float64)
    expected = wide / (1 + np.exp(-np.maximum(wide, -500))) * up
    kernels.call("ferrum_test_silu_multiply", isa.encode(), gate, up, n)
    # The exponent -x is rounded before exp: |x| half-units more.
    np.testing.assert_allclose(gate, expected, rtol=8 * EPSILON, atol=1e-37)


def attend(
    kernels: Any,
    isa: str,
    cache: int,
    q: Any,
    k: Any,
    v: Any,
    seen: list[int] | None = None,
    *,
    narrow: bool = True,
) -> tuple[Any, Any, Any]:
    """Largest scores, sums of exponentials, and values weighted with them, of queries that see
    the first `seen` keys each; in 16-bit integers where `narrow`, for caches of 2 bytes."""
    own = np.array(seen or [len(k)] * len(q), np.int32)
    most, sums, out = np.empty(len(q), np.float32), np.empty(len(q), np.float32), np.empty_like(q)
    kernels.call(
        "ferrum_test_attention", isa.encode(), cache, narrow, q, len(q), own, k, v, len(k),
        q.shape[1], most, sums, out,
    )  # fmt: skip
    return most, sums, out


def half_steps(rows: Any, largest: float) -> Any:
    """By how much an element of each row is off when the row's largest becomes that integer."""
    return np.abs(rows).max(1, keepdims=True) / largest / 2 * (1 + 1e-5)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("head_dim", [64, 128, 80, 36, 2, 576])
@pytest.mark.parametrize("cache", CACHES)
def test_attention(kernels: Any, isa: str, cache: int, head_dim: int, narrow: bool) -> None:
    for queries, count in (1, 45), (7, 128), (16, 1), (40, 300):
        q = normal(queries, head_dim) / np.float32(head_dim**0.5)
        k, v = (normal(count, head_dim, seed=s).astype(CACHES[cache]) for s in (1, 2))
        most, sums, out = attend(kernels, isa, cache, q, k, v, narrow=narrow)
        wide_k, wide_v = k.astype(np.float64), v.astype(np.float64)
        scores = q.astype(np.float64) @ wide_k.T
        # Of a score, by the products that it adds up; of a weight, the errors of two scores more.
        error = head_dim * EPSILON * (np.abs(q).astype(np.float64) @ np.abs(wide_k).T).max()
        rounded = narrow and isa in describe()["int16_attention"] and CACHES[cache] != np.float32
        if rounded:
            largest = LARGEST if head_dim <= 128 else LARGEST * (128 / head_dim) ** 0.5 * 0.93
            of_q, of_k = half_steps(q, largest), half_steps(wide_k, largest)
            off = np.abs(wide_k).sum(1) * of_q + np.abs(q).sum(1, keepdims=True) * of_k.T
            error += (off + head_dim * of_q * of_k.T).max()
        np.testing.assert_allclose(most, scores.max(1), atol=error, rtol=0)
        expected = np.exp(scores - scores.max(1, keepdims=True))
        relative = 2 * error + (16 + count) * EPSILON
        np.testing.assert_allclose(sums, expected.sum(1), rtol=relative)
        allowed = relative * (expected @ np.abs(wide_v))
        if rounded:
            heaviest = (expected * np.abs(wide_v).max(1)).max(1, keepdims=True) * (1 + relative)
            of_v = expected @ half_steps(wide_v, LARGEST) * (1 + relative)
            allowed += of_v + count * heaviest / LARGEST / 2 * (1 + 1e-3)
        assert (np.abs(out - expected @ wide_v) <= allowed).all()


@pytest.mark.parametrize("cache", CACHES)
def test_a_query_gets_the_same_bits_alone_and_beside_others(
    kernels: Any, isa: str, cache: int
) -> None:
    q = normal(71, 128) / 8
    k, v = (normal(300, 128, seed=s).astype(CACHES[cache]) for s in (1, 2))
    alone = [attend(kernels, isa, cache, q[i : i + 1], k, v) for i in range(len(q))]
    for first, count in (0, 71), (0, 4), (3, 8), (5, 9), (8, 17), (30, 33):
        together = attend(kernels, isa, cache, q[first : first + count], k, v)
        for i in range(count):
            for whole, part in zip(together, alone[first + i], strict=True):
                np.testing.assert_array_equal(part[0], whole[i])


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("group", [1, 3, 8])
def test_what_a_query_does_not_see_changes_no_bit(
    kernels: Any, isa: str, group: int, cache: int
) -> None:
    count, kind = 150, CACHES[cache]
    seen = sorted([*range(1, 20), 127, 128, 129, *range(140, count + 1)] * group)
    q = normal(len(seen), 64)
    k, v = (normal(count, 64, seed=s).astype(kind) for s in (1, 2))
    together = attend(kernels, isa, cache, q, k, v, seen)
    k[20:], v[20:] = np.nan, np.inf
    spoiled = attend(kernels, isa, cache, q, k, v, seen)
    k, v = (normal(count, 64, seed=s).astype(kind) for s in (1, 2))
    for i, own in enumerate(seen):
        alone = attend(kernels, isa, cache, q[i : i + 1], k[:own].copy(), v[:own].copy())
        for part, whole, beside_nan in zip(alone, together, spoiled, strict=True):
            np.testing.assert_array_equal(part[0], whole[i])
            if own <= 20:
                np.testing.assert_array_equal(part[0], beside_nan[i])


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("head_dim", [64, 36])
@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_what_is_not_a_number_is_seen_in_what_it_is_multiplied_with(
    kernels: Any, isa: str, cache: int, head_dim: int, spoiled: float
) -> None:
    q = np.ones((3, head_dim), np.float32)
    ones = np.ones((5, head_dim), np.float32).astype(CACHES[cache])
    values = ones.copy()
    values[3, 7] = spoiled
    seen = [3, 4, 5]
    out = attend(kernels, isa, cache, q, ones, values, seen)[2]
    np.testing.assert_array_equal(np.isfinite(out[:, 7]), [True, False, False])
    np.testing.assert_allclose(out[0], np.full(head_dim, 3.0), rtol=4 * EPSILON)


def test_scores_of_minus_infinity_weigh_nothing(kernels: Any, isa: str) -> None:
    q = np.ones((1, 64), np.float32)
    k = np.zeros((20, 64), np.float32)
    k[3:, 0] = -np.inf
    most, sums, out = attend(kernels, isa, 0, q, k, np.ones_like(k))
    assert (most[0], sums[0]) == (0.0, 3.0)
    np.testing.assert_array_equal(out, np.full_like(out, 3.0))


def _float(value: float) -> Any:
    import ctypes

    return ctypes.c_float(value)
