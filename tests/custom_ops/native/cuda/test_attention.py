"""PagedAttention on the CUDA kernels: writes all, then reads, for every cache and shape."""

from __future__ import annotations

import attention_steps
import numpy as np
import pytest
from attention_steps import CACHES, Layer, check, random_step, run_step, step, three_sequences
from cuda_node import session
from hypothesis import given, settings
from hypothesis import strategies as st


def tolerance(cache: str, tokens: int = 1000) -> float:
    """One rounding of the cache's type on values of a few units. Many tokens are multiplied as
    float16; a few in float32."""
    least = 2e-5 if tokens <= 4 else 4e-3
    return max(least, attention_steps.tolerance(cache))


def run(layer: Layer, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return run_step(layer.node(session), feeds, in_place=False)


@pytest.mark.parametrize("dim", [16, 64, 128])
@pytest.mark.parametrize("cache", CACHES)
def test_a_mixed_step_equals_the_definition(cache: str, dim: int) -> None:
    layer = Layer(dim=dim, cache=cache, rope_scale=1.25)
    feeds = three_sequences(layer)
    check(run(layer, feeds), layer.oracle(feeds), tolerance(cache))


@pytest.mark.parametrize(
    "sequences",
    [[(1, 5), (1, 300), (1, 0)], [(20, 3), (30, 0), (1, 70)]],
    ids=["decode", "prefill"],
)
@pytest.mark.parametrize("dim", [64, 80, 96, 128, 130, 160, 192, 256])
@pytest.mark.parametrize("cache", CACHES)
def test_every_head_size_equals_the_definition(
    cache: str, dim: int, sequences: list[tuple[int, int]]
) -> None:
    layer = Layer(8, 2, dim, cache, rope_scale=1.25)
    feeds = random_step(layer, sequences, 16)
    (out, *caches), (wanted, *wanted_caches) = run(layer, feeds), layer.oracle(feeds)
    check(caches, wanted_caches, tolerance(cache))
    check([out], [wanted], tolerance("float16"))  # of the same caches, whatever their type


@pytest.mark.parametrize("dim", [64, 80, 96, 128])
def test_a_short_prompt_of_few_heads_equals_the_definition(dim: int) -> None:
    """Too few rows for blocks of 128."""
    layer = Layer(2, 1, dim, "float16")
    feeds = random_step(layer, [(34, 20), (1, 7)], 16)
    check(run(layer, feeds), layer.oracle(feeds), tolerance("float16"))


@settings(max_examples=40, deadline=None)
@given(
    kv_heads=st.integers(1, 3),
    group=st.sampled_from([1, 2, 3, 8]),
    dim=st.sampled_from([2, 6, 16, 34, 64, 128, 132]),
    block_size=st.sampled_from([1, 3, 16, 100]),
    sequences=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 150)), max_size=4),
    cache=st.sampled_from(sorted(CACHES)),
)
def test_odd_shapes_come_out_right(
    kv_heads: int,
    group: int,
    dim: int,
    block_size: int,
    sequences: list[tuple[int, int]],
    cache: str,
) -> None:
    layer = Layer(kv_heads * group, kv_heads, dim, cache)
    feeds = random_step(layer, sequences, block_size)
    check(run(layer, feeds), layer.oracle(feeds), tolerance(cache))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("past", [0, 1, 63, 64, 700, 1500])
def test_a_decode_at_any_context_equals_the_definition(past: int, cache: str) -> None:
    layer = Layer(8, 1, 128, cache)
    feeds = random_step(layer, [(1, past), (1, past // 2)], 32)
    angle = past * 2.0**-22  # angles are float32 products, of keys of a few units
    check(run(layer, feeds), layer.oracle(feeds), tolerance(cache, 2) + angle)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("dim", [64, 128])
def test_a_long_prompt_equals_the_definition(dim: int, cache: str) -> None:
    layer = Layer(8, 2, dim, cache)
    feeds = random_step(layer, [(150, 0), (90, 37), (1, 210)], 16)
    check(run(layer, feeds), layer.oracle(feeds), tolerance(cache))


def test_a_tokens_bits_do_not_depend_on_the_other_sequences() -> None:
    layer = Layer(8, 2, 128, "float16")
    feeds = random_step(layer, [(40, 13), (70, 0), (33, 100)], 16)
    node = layer.node(session)
    together = node.run(None, feeds)[0]
    bounds = feeds["cumulative_sequence_lengths"]
    for b in range(3):
        start, end = bounds[b], bounds[b + 1]
        alone = dict(feeds)
        for name in ("q", "k", "v"):
            alone[name] = feeds[name][start:end]
        alone["block_table"] = feeds["block_table"][b : b + 1]
        alone["past_sequence_lengths"] = feeds["past_sequence_lengths"][b : b + 1]
        alone["cumulative_sequence_lengths"] = np.array([0, end - start], np.int32)
        np.testing.assert_array_equal(node.run(None, alone)[0], together[start:end])


@pytest.mark.parametrize("dim", [32, 64, 128])
@pytest.mark.parametrize("count", [2, 37, 64, 70])
def test_a_prompt_as_sequences_of_one_token_that_share_a_row_gives_every_position(
    dim: int, count: int
) -> None:
    layer = Layer(8, 2, dim, "float16")
    tokens, caches = layer.tokens(count), layer.empty_caches(9, 8)
    row = [3, 0, 4, 1, 2, 8, 7, 6, 5]
    order = np.random.default_rng(count).permutation(count).tolist()  # the last may come first
    feeds = step(layer, tokens, caches, [row] * count, [1] * count, order)
    check(run(layer, feeds), layer.oracle(feeds), tolerance("float16"))


def test_drafts_far_into_a_context_see_each_other_and_what_others_share_with_them() -> None:
    """Three tokens of one sequence, and two sequences that have its first blocks too."""
    layer = Layer(16, 1, 64, "float16")
    feeds = random_step(layer, [(1, 1500), (1, 40), (1, 700)], 16)
    table = np.repeat(feeds["block_table"][[0, 0, 0, 1, 2]], 1, axis=0)
    table[4, :43] = table[0, :43]
    past = np.array([1500, 1501, 1502, 40, 700], np.int32)
    feeds |= layer.tokens(5, seed=1)
    feeds["block_table"], feeds["past_sequence_lengths"] = table, past
    feeds["cumulative_sequence_lengths"] = np.arange(6, dtype=np.int32)
    # And one that stands where the last one reads.
    feeds["block_table"][3, 2] = table[4, 43]
    check(run(layer, feeds), layer.oracle(feeds), tolerance("float16"))


@pytest.mark.parametrize("lengths", [[2, 0, 1], [0, 3, 0], [0, 0, 3, 1]])
def test_as_many_sequences_as_tokens_are_not_taken_for_one_each(lengths: list[int]) -> None:
    layer = Layer(8, 2, 128, "float16")
    feeds = random_step(layer, [(n, 5 * i) for i, n in enumerate(lengths)], 16)
    check(run(layer, feeds), layer.oracle(feeds), tolerance("float16"))


@pytest.mark.parametrize("dim", [64, 128])
def test_a_decoding_tokens_bits_do_not_depend_on_the_others(dim: int) -> None:
    layer = Layer(8, 2, dim, "float16")
    feeds = random_step(layer, [(1, past) for past in range(0, 240, 4)], 16)
    node = layer.node(session)
    together = node.run(None, feeds)
    for b in (0, 7, 59):
        alone = {**feeds, **{name: feeds[name][b : b + 1] for name in ("q", "k", "v")}}
        alone["block_table"] = feeds["block_table"][b : b + 1]
        alone["past_sequence_lengths"] = feeds["past_sequence_lengths"][b : b + 1]
        alone["cumulative_sequence_lengths"] = np.array([0, 1], np.int32)
        np.testing.assert_array_equal(node.run(None, alone)[0][0], together[0][b])


def test_far_positions_are_turned_as_near_ones() -> None:
    layer = Layer(2, 1, 128, theta=1e6)
    feeds = step(layer, layer.tokens(1), layer.empty_caches(1, 200_000), [[0]], [1], [123_456])
    for cache in ("key_cache", "value_cache"):
        feeds[cache][:] = 0
    # Angles are float32 products, here as on the CPU, whose tests know how exact that is.
    check(layer.node(session).run(None, feeds), layer.node().run(None, feeds), 2e-5)


@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize(
    "break_it",
    [
        lambda feeds: feeds["block_table"].__setitem__((0, 0), 99),
        lambda feeds: feeds["block_table"].__setitem__((0, 0), -1),
        lambda feeds: feeds["past_sequence_lengths"].__setitem__(0, -3),
        lambda feeds: feeds["past_sequence_lengths"].__setitem__(0, 100_000),
        lambda feeds: feeds["past_sequence_lengths"].__setitem__(0, 2**31 - 1),
        lambda feeds: feeds["cumulative_sequence_lengths"].__setitem__(0, -5),
        lambda feeds: feeds["cumulative_sequence_lengths"].__setitem__(2, 2**30),
        lambda feeds: feeds["cumulative_sequence_lengths"].__setitem__(
            2, feeds["cumulative_sequence_lengths"][1]
        ),
    ],
    ids=[
        "block too high",
        "block -1",
        "negative past",
        "past",
        "largest past",
        "start",
        "end",
        "no end",
    ],
)
def test_sequences_that_do_not_fit_touch_nothing_outside(break_it: object, tokens: int) -> None:
    """What a sanitizer or compute-sanitizer would see; the first sequence's rows become NaN."""
    layer = Layer(8, 2, 64, "float16")
    feeds = random_step(layer, [(tokens, 5), (tokens, 9)], 16)
    assert callable(break_it)
    break_it(feeds)
    found = layer.node(session).run(None, feeds)[0]
    assert found.shape == feeds["q"].shape
    assert np.isnan(found).any()


@pytest.mark.parametrize("tokens", [20, 40])
def test_tokens_of_no_sequence_read_nothing(tokens: int) -> None:
    layer = Layer(8, 2, 64, "float16")
    feeds = random_step(layer, [(tokens, 0)], 16)
    feeds["cumulative_sequence_lengths"] = feeds["cumulative_sequence_lengths"][:1]
    for name in ("past_sequence_lengths", "block_table"):
        feeds[name] = feeds[name][:0]
    assert np.isnan(layer.node(session).run(None, feeds)[0]).all()


def test_a_head_too_large_for_a_multiprocessor_is_refused() -> None:
    layer = Layer(1, 1, 5122)
    feeds = random_step(layer, [(1, 0)], 1)
    with pytest.raises(Exception, match="got a head_dim of 5122, expected at most 5120"):
        layer.node(session).run(None, feeds)


def test_shapes_that_do_not_fit_are_refused() -> None:
    layer = Layer()
    feeds = random_step(layer, [(3, 2)], 4)
    feeds["inv_freq"] = feeds["inv_freq"][:-1]
    with pytest.raises(Exception, match="half of q's head_dim"):
        layer.node(session).run(None, feeds)
