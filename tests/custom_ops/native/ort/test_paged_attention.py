"""PagedAttention on the library: the same bits for a token however a step is put together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from attention_steps import (
    CACHES,
    Layer,
    check,
    random_step,
    run_step,
    step,
    three_sequences,
    tolerance,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ferrum.custom_ops.library import describe

ISAS = describe()["isas"]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("in_place", [False, True], ids=["copied", "in_place"])
@pytest.mark.parametrize("cache", CACHES)
def test_a_mixed_step_equals_the_definition(cache: str, in_place: bool, isa: str) -> None:
    layer = Layer(cache=cache, rope_scale=1.25)
    feeds = three_sequences(layer)
    found = run_step(layer.node(isa=isa), feeds, in_place)
    check(found, layer.oracle(feeds), tolerance(cache))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dim", [24, 72, 80, 96, 136, 192, 256])
@pytest.mark.parametrize("cache", CACHES)
def test_every_head_size_equals_the_definition(cache: str, dim: int, isa: str) -> None:
    layer = Layer(8, 2, dim, cache, rope_scale=1.25)
    feeds = random_step(layer, [(20, 3), (1, 70), (1, 0)], 16)
    found = run_step(layer.node(isa=isa), feeds, in_place=False)
    check(found, layer.oracle(feeds), tolerance(cache))


@settings(max_examples=30, deadline=None)
@example(1, 2, 128, 1, [(12, 1)], "float16")  # a key halfway between two float16, above 4
@given(
    kv_heads=st.integers(1, 3),
    group=st.sampled_from([1, 2, 3, 8]),
    dim=st.sampled_from([2, 6, 16, 34, 64, 128]),
    block_size=st.sampled_from([1, 3, 16, 100]),
    sequences=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 150)), max_size=4),
    cache=st.sampled_from(["float32", "float16"]),
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
    check(layer.node().run(None, feeds), layer.oracle(feeds), tolerance(cache))


def prefill(
    layer: Layer, node: ort.InferenceSession, chunks: list[int], block_size: int
) -> np.ndarray:
    """The outputs of one sequence whose tokens arrive in those chunks."""
    total = sum(chunks)
    tokens = layer.tokens(total)
    columns = -(-total // block_size)
    table = [np.random.default_rng(0).permutation(columns).tolist()]
    caches = layer.empty_caches(columns, block_size)
    outputs, done = [], 0
    for chunk in chunks:
        part = {name: array[done : done + chunk] for name, array in tokens.items()}
        out, keys, values = node.run(None, step(layer, part, caches, table, [chunk], [done]))
        outputs.append(out)
        caches = {"key_cache": keys, "value_cache": values}
        done += chunk
    return np.concatenate(outputs)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache", ["float32", "float16"])
def test_a_prompt_has_the_same_bits_in_any_chunks(cache: str, isa: str) -> None:
    layer = Layer(8, 2, 64, cache)
    node = layer.node(isa=isa)
    whole = prefill(layer, node, [203], 16)
    for chunks in ([1] * 203, [7] * 29, [64, 64, 64, 11], [100, 1, 1, 101]):
        np.testing.assert_array_equal(prefill(layer, node, chunks, 16), whole)
    for block_size in (1, 5, 256):
        np.testing.assert_array_equal(prefill(layer, node, [203], block_size), whole)
    for threads in (1, 3):
        other = layer.node(isa=isa, threads=threads)
        np.testing.assert_array_equal(prefill(layer, other, [203], 16), whole)


@pytest.mark.parametrize("isa", ISAS)
def test_long_contexts_have_the_same_bits_shared_out_or_not(isa: str) -> None:
    """Past 1024 positions a lone token's keys are split among threads; a prompt's are not."""
    layer = Layer(4, 1, 16)
    node = layer.node(isa=isa)
    whole = prefill(layer, node, [1130], 64)
    for last in (1, 3, 20):
        split = prefill(layer, node, [1130 - last] + [1] * last, 64)
        np.testing.assert_array_equal(split[-last:], whole[-last:])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache", CACHES)
def test_key_heads_have_the_same_bits_taken_together_or_not(cache: str, isa: str) -> None:
    """One thread takes all heads of ten sequences together, sixteen take each by itself."""
    layer = Layer(8, 4, 32, cache)
    feeds = random_step(layer, [(1, 130 * n) for n in range(10)], 16)
    together = run_step(layer.node(isa=isa, threads=1), feeds, in_place=False)
    alone = run_step(layer.node(isa=isa, threads=16), feeds, in_place=False)
    check(together[:1], layer.oracle(feeds)[:1], tolerance(cache))
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours.astype(np.float32), theirs.astype(np.float32))


def test_long_contexts_equal_the_definition() -> None:
    layer = Layer(2, 1, 8)
    rng = np.random.default_rng(4)
    past = 3000
    caches = {
        name: rng.standard_normal((past // 50 + 1, 50, 1, 8)).astype(np.float32)
        for name in ("key_cache", "value_cache")
    }
    table = [rng.permutation(past // 50 + 1).tolist()]
    feeds = step(layer, layer.tokens(2), caches, table, [2], [past])
    np.testing.assert_allclose(layer.node().run(None, feeds)[0], layer.oracle(feeds)[0], atol=2e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_other_sequences_in_the_step_change_no_bit(isa: str) -> None:
    layer = Layer()
    feeds = three_sequences(layer)
    node = layer.node(isa=isa)
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


def test_a_prompt_as_sequences_of_one_token_that_share_a_row_gives_every_position() -> None:
    layer = Layer(8, 2, 32, "float16")
    node = layer.node()
    tokens, count = layer.tokens(37), 37
    caches = layer.empty_caches(5, 8)
    row = [3, 0, 4, 1, 2]
    whole = node.run(None, step(layer, tokens, caches, [row], [count], [0]))
    shared = node.run(
        None, step(layer, tokens, caches, [row] * count, [1] * count, list(range(count)))
    )
    for ours, theirs in zip(shared, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("cache", CACHES)
def test_caches_in_place_are_the_buffers_that_were_bound(cache: str) -> None:
    layer = Layer(cache=cache)
    feeds = three_sequences(layer)
    copied = run_step(layer.node(), feeds, in_place=False)
    placed = run_step(layer.node(), feeds, in_place=True)
    for ours, theirs in zip(placed, copied, strict=True):
        np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8))


@pytest.mark.parametrize("cache", CACHES)
def test_values_are_rounded_to_the_cache_as_numpy_rounds(cache: str) -> None:
    """Every exponent, ties, subnormals, overflow and infinities."""
    layer = Layer(dim=64, cache=cache)
    tokens = layer.tokens(64)
    bits = np.random.default_rng(8).integers(0, 2**32, tokens["v"].shape, np.uint32)
    bits[::2] &= 0xFFFF_E000  # few bits set: exact in float16, or a tie in bfloat16
    bits[1::4] = bits[1::4] & 0xFFFF_F000 | 0x3000_0000  # ties in float16, and its subnormals
    tokens["v"] = bits.view(np.float32)
    feeds = step(layer, tokens, layer.empty_caches(4, 16), [[0, 1, 2, 3]], [64], [0])
    found = run_step(layer.node(), feeds, in_place=True)[2]
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = tokens["v"].astype(CACHES[cache][0]).reshape(found.shape)
    nan = np.isnan(tokens["v"]).reshape(found.shape)
    assert np.isnan(found[nan].astype(np.float32)).all()
    unsigned = np.uint32 if cache == "float32" else np.uint16
    np.testing.assert_array_equal(found.view(unsigned)[~nan], wanted.view(unsigned)[~nan])


def test_one_session_runs_over_several_caches_at_once() -> None:
    layer = Layer(8, 2, 64, "float16")
    node = layer.node()
    lengths = [1, 40, 7, 150]
    feeds = [
        step(layer, layer.tokens(n, n), layer.empty_caches(10, 16), [list(range(10))], [n], [0])
        for n in lengths
    ]
    alone = [node.run(None, feed)[0] for feed in feeds]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: node.run(None, feeds[i % 4])[0], range(60)))
    for i, result in enumerate(found):
        np.testing.assert_array_equal(result, alone[i % 4])


def test_a_plain_run_leaves_the_caller_s_caches_alone() -> None:
    layer = Layer()
    feeds = three_sequences(layer)
    before = {name: feeds[name].copy() for name in ("key_cache", "value_cache")}
    layer.node().run(None, feeds)
    for name, array in before.items():
        np.testing.assert_array_equal(feeds[name], array)


def test_empty_sequences_and_steps_do_nothing() -> None:
    layer = Layer()
    caches = layer.empty_caches(2, 4)
    node = layer.node()
    out, keys, _ = node.run(None, step(layer, layer.tokens(0), caches, [], [], []))
    assert out.shape == (0, 64)
    assert np.isnan(keys).all()
    tokens = layer.tokens(2)
    alone = node.run(None, step(layer, tokens, caches, [[1]], [2], [0]))[0]
    padded = node.run(None, step(layer, tokens, caches, [[-1], [1], [-1]], [0, 2, 0], [9, 0, 0]))[0]
    np.testing.assert_array_equal(padded, alone)


def test_positions_of_a_million_are_rotated_by_the_same_angle_as_in_float32() -> None:
    layer = Layer(2, 1, 64, theta=5e6)
    past, block_size = 999_999, 1_000_000
    caches = {
        name: np.zeros((1, block_size, 1, 64), np.float32) for name in ("key_cache", "value_cache")
    }
    feeds = step(layer, layer.tokens(1), caches, [[0]], [1], [past])
    keys = layer.node().run(None, feeds)[1]
    angle = (np.float32(past) * layer.weights["inv_freq"]).astype(np.float64)
    k = feeds["k"][0].astype(np.float64)
    k = k / np.sqrt((k**2).mean() + 1e-6) * layer.weights["k_norm"]
    turned = np.concatenate(
        [
            k[:32] * np.cos(angle) - k[32:] * np.sin(angle),
            k[32:] * np.cos(angle) + k[:32] * np.sin(angle),
        ]
    )
    np.testing.assert_allclose(keys[0, past, 0], turned, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("block_table", [[12, 1]], r"block_table\[0, 0\], got 12, expected 0 to 11"),
        ("block_table", [[0, -1]], r"block_table\[0, 1\], got -1, expected 0 to 11"),
        ("block_table", [[0, -(2**31)]], r"block_table\[0, 1\], got -2147483648, expected"),
        ("block_table", [[0]], r"sequence 0 of 6 tokens, got a block_table row of 1 blocks of 4"),
        ("block_table", [0, 1], "input block_table, got rank 1, expected rank 2"),
        ("block_table", [[0, 1], [2, 3]], "input block_table, .* expected 1 in dimension 0"),
        ("cumulative_sequence_lengths", [1, 5], r"lengths\[0\], got 1, expected 0"),
        ("cumulative_sequence_lengths", [0, 4], r"lengths\[1\], got 4, expected 5, the tokens"),
        ("cumulative_sequence_lengths", [0, 6], r"lengths\[1\], got 6, expected 5, the tokens"),
        ("cumulative_sequence_lengths", [0, -5], r"lengths\[1\], got -5, expected at least 0"),
        ("cumulative_sequence_lengths", [0], "expected 2 in dimension 0"),
        ("past_sequence_lengths", [-1], r"past_sequence_lengths\[0\], got -1, expected 0 or more"),
        ("past_sequence_lengths", [4], "sequence 0 of 9 tokens, got a block_table row of 2"),
        ("past_sequence_lengths", [2**31 - 1], "sequence 0 of 2147483652 tokens"),
    ],
)
def test_lengths_and_blocks_that_do_not_fit_are_refused(
    name: str, value: list[Any], message: str
) -> None:
    layer = Layer()
    caches = layer.empty_caches(12, 4)
    feeds = step(layer, layer.tokens(5), caches, [[3, 8]], [5], [1])
    feeds[name] = np.array(value, np.int32)
    node = layer.node(name="blk.2.attention")
    with pytest.raises(Exception, match=rf"\[PagedAttention\] blk.2.attention: .*{message}"):
        node.run(None, feeds)


def test_lengths_that_fall_are_refused() -> None:
    layer = Layer()
    feeds = step(layer, layer.tokens(5), layer.empty_caches(4, 4), [[0, 1], [2, 3]], [3, 2], [0, 0])
    feeds["cumulative_sequence_lengths"] = np.array([0, 7, 5], np.int32)
    with pytest.raises(Exception, match=r"lengths\[2\], got 5, expected at least 7, where"):
        layer.node().run(None, feeds)


def test_a_refused_step_leaves_the_caches_as_they_were() -> None:
    layer = Layer()
    feeds = step(layer, layer.tokens(5), layer.empty_caches(4, 4), [[0], [9]], [3, 2], [0, 0])
    caches = {
        name: ort.OrtValue.ortvalue_from_numpy(feeds[name]) for name in ("key_cache", "value_cache")
    }
    node = layer.node()
    binding = node.io_binding()
    for name, array in feeds.items():
        value = caches[name] if name in caches else ort.OrtValue.ortvalue_from_numpy(array)
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("output", "cpu")
    binding.bind_ortvalue_output("key_cache_out", caches["key_cache"])
    binding.bind_ortvalue_output("value_cache_out", caches["value_cache"])
    with pytest.raises(Exception, match=r"block_table\[1, 0\], got 9"):
        node.run_with_iobinding(binding)
    for cache in caches.values():
        assert np.isnan(cache.numpy()).all()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("q", (5, 63), "input q, got shape .5, 63., expected 4 heads of an even head_dim"),
        ("q", (5, 60), "input q, got shape .5, 60., expected 4 heads of an even head_dim"),
        ("q", (5, 0), "input q, got shape .5, 0., expected 4 heads of an even head_dim"),
        ("k", (4, 32), "input k, got shape .4, 32., expected 5 in dimension 0"),
        ("v", (5, 64), "input v, got shape .5, 64., expected 32 in dimension 1"),
        ("key_cache", (12, 4, 3, 16), "input key_cache, .* expected 2 in dimension 2"),
        ("key_cache", (12, 4, 2, 8), "input key_cache, .* expected 16 in dimension 3"),
        ("key_cache", (12, 4, 32), "input key_cache, got rank 3, expected rank 4"),
        ("value_cache", (11, 4, 2, 16), "input value_cache, .* expected 12 in dimension 0"),
        ("value_cache", (12, 5, 2, 16), "input value_cache, .* expected 4 in dimension 1"),
        ("q_norm", (8,), "input q_norm, got shape .8., expected 16 in dimension 0"),
        ("k_norm", (17,), "input k_norm, got shape .17., expected 16 in dimension 0"),
        ("inv_freq", (16,), "input inv_freq, got shape .16., expected 8 in dimension 0"),
    ],
)
def test_misshapen_inputs_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    layer = Layer()
    feeds = step(layer, layer.tokens(5), layer.empty_caches(12, 4), [[3, 8]], [5], [1])
    feeds[name] = np.zeros(shape, np.float32)
    with pytest.raises(Exception, match=rf"\[PagedAttention\] node: {message}"):
        layer.node().run(None, feeds)


def test_a_block_size_of_nothing_is_refused() -> None:
    layer = Layer()
    feeds = step(layer, layer.tokens(5), layer.empty_caches(12, 0), [[3, 8]], [5], [1])
    with pytest.raises(Exception, match=r"input key_cache, .* expected a block_size of 1 or more"):
        layer.node().run(None, feeds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "attribute num_heads, got 5, expected a multiple of kv_num_heads = 2"),
        ({"num_heads": 0}, "attribute num_heads, got 0, expected 1 to"),
        ({"kv_num_heads": -1}, "attribute kv_num_heads, got -1, expected 1 to"),
        ({"scale": float("inf")}, "attribute scale, got inf, expected a finite number"),
        ({"epsilon": -1.0}, "attribute epsilon, got -1, expected 0 or more"),
        ({"rope_scale": float("nan")}, "attribute rope_scale, got nan, expected a finite"),
    ],
)
def test_attributes_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    layer = Layer()
    layer.attributes |= change
    with pytest.raises(Exception, match=rf"\[PagedAttention\] node: {message}"):
        layer.node()


def test_tokens_that_are_no_numbers_leave_other_sequences_and_earlier_tokens_alone() -> None:
    layer = Layer()
    feeds = three_sequences(layer)
    clean = layer.node().run(None, feeds)[0]
    for bad in (np.nan, np.inf, 3e38):
        spoiled = dict(feeds)
        for name in ("q", "k", "v"):
            spoiled[name] = feeds[name].copy()
            spoiled[name][8] = bad  # the second of sequence 1
        found = layer.node().run(None, spoiled)[0]
        np.testing.assert_array_equal(found[:8], clean[:8])
        np.testing.assert_array_equal(found[10:], clean[10:])
