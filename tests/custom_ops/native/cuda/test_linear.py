"""QuantMatMul, QuantQKV and QuantGather on the CUDA kernels: right for every type and shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_node import run, session
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import quantized

from ferrum.custom_ops.quants import QUANTS

F32, F16, BF16, Q4_0, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_XS, MXFP4 = 0, 1, 30, 2, 8, 12, 13, 14, 23, 39
NATIVE = (F32, F16, BF16, Q4_0, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_XS, MXFP4)
FEW, SOME, MANY = 12, 40, 140  # tokens that go to tensor cores, in one of three ways
MOST_GEMV_F32 = 256  # tokens; with more, float32 matrices have a kernel of their own


def activations(tokens: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, k)).astype(np.float32)


def products(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) @ values.T.astype(np.float64)


def float32_bound(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Most that k float32 products, added in any order, are off by: k roundings of their size."""
    k = x.shape[-1]
    return np.abs(x).astype(np.float64) @ np.abs(values).T * (k + 8) * 2.0**-24 + 1e-30


def float16_bound(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Both factors rounded to float16: half a step of 11 bits each, or of its smallest number."""
    size = np.abs(x).astype(np.float64) @ np.abs(values).T
    small = 2.0**-25 * (np.abs(x).sum(1)[:, None] + np.abs(values).sum(1)[None, :])
    return size * 2.0**-10 * 1.01 + small + float32_bound(x, values)


def bound(tokens: int, type_id: int, x: np.ndarray, values: np.ndarray) -> np.ndarray:
    exact = type_id == F32 or (type_id in NATIVE and tokens <= 8)
    return float32_bound(x, values) if exact else float16_bound(x, values)


@pytest.mark.parametrize("tokens", [1, 3, FEW, SOME, MANY])
@pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
def test_every_type_is_multiplied_within_its_arithmetics_error(quant: Any, tokens: int) -> None:
    blocks, values = quantized(quant.id, (33, 512))
    x = activations(tokens, 512)
    found = run("QuantMatMul", {"x": x, "weight": blocks}, {"type": quant.id})[0]
    error = np.abs(found - products(x, values))
    assert (error <= bound(tokens, quant.id, x, values)).all()


@settings(max_examples=40, deadline=None)
@given(
    type_id=st.sampled_from(NATIVE),
    tokens=st.integers(0, 150),
    rows=st.integers(1, 300),
    blocks=st.integers(1, 9),
)
def test_odd_shapes_come_out_right(type_id: int, tokens: int, rows: int, blocks: int) -> None:
    block = QUANTS.by_id(type_id).block
    k = blocks * (block if block > 1 else 7)
    weight, values = quantized(type_id, (rows, k), seed=rows)
    x = activations(tokens, k, seed=k)
    found = run("QuantMatMul", {"x": x, "weight": weight}, {"type": type_id})[0]
    assert (np.abs(found - products(x, values)) <= bound(MANY, type_id, x, values)).all()


@pytest.mark.parametrize("tokens", [3, FEW, SOME, MANY])
@pytest.mark.parametrize("k", [32, 96, 160, 288])
@pytest.mark.parametrize("type_id", [Q4_0, Q8_0, MXFP4, F16, BF16, F32])
def test_columns_that_end_within_a_stage_come_out_right(type_id: int, k: int, tokens: int) -> None:
    """Behind a row's last weights stand those of the next one, which must count for nothing."""
    weight, values = quantized(type_id, (40, k))
    x = activations(tokens, k)
    found = run("QuantMatMul", {"x": x, "weight": weight}, {"type": type_id})[0]
    assert (np.abs(found - products(x, values)) <= bound(tokens, type_id, x, values)).all()


@pytest.mark.parametrize("tokens", [20, 50, 100])
@pytest.mark.parametrize("type_id", [type_id for type_id in NATIVE if type_id != F32])
def test_rows_enough_for_tiles_of_tokens_come_out_right(type_id: int, tokens: int) -> None:
    """More rows than the emulated GPU has for blocks that divide k."""
    weight, values = quantized(type_id, (530, 256))
    x = activations(tokens, 256)
    found = run("QuantMatMul", {"x": x, "weight": weight}, {"type": type_id})[0]
    assert (np.abs(found - products(x, values)) <= bound(tokens, type_id, x, values)).all()


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(MOST_GEMV_F32 + 1, MOST_GEMV_F32 + 150),
    rows=st.integers(1, 130),
    k=st.integers(1, 150),
)
def test_float32_rows_of_many_tokens_are_multiplied_in_float32(
    tokens: int, rows: int, k: int
) -> None:
    """The router's product in a prefill."""
    weight, values = quantized(F32, (rows, k), seed=rows)
    x = activations(tokens, k, seed=k)
    found = run("QuantMatMul", {"x": x, "weight": weight}, {"type": F32})[0]
    assert (np.abs(found - products(x, values)) <= float32_bound(x, values)).all()


def test_a_token_among_many_has_the_bits_of_any_other_place_in_float32() -> None:
    weight, _ = quantized(F32, (37, 130))
    x = activations(500, 130)
    x[7] = np.nan
    node = session("QuantMatMul", {"type": F32})
    many = node.run(None, {"x": x, "weight": weight})[0]
    assert np.isnan(many[7]).all()
    assert np.isfinite(np.delete(many, 7, 0)).all()
    part = node.run(None, {"x": x[29:400], "weight": weight})[0]
    np.testing.assert_array_equal(part, many[29:400])


@pytest.mark.parametrize("type_id", [Q4_K, Q5_K, Q6_K])
def test_offsets_are_right_where_activations_have_one_sign(type_id: int) -> None:
    """Tiles add minimums by the means of activations, which are near 0 in other tests."""
    weight, values = quantized(type_id, (130, 768))
    x = 8 + np.abs(activations(MANY, 768))
    found = run("QuantMatMul", {"x": x, "weight": weight}, {"type": type_id})[0]
    assert (np.abs(found - products(x, values)) <= bound(MANY, type_id, x, values)).all()


def test_a_scale_beyond_float16_shows_in_tiles() -> None:
    weight, values = quantized(Q4_K, (33, 512))
    weight[5, :2] = np.frombuffer(np.float16(60000).tobytes(), np.uint8)
    x = activations(MANY, 512)
    found = run("QuantMatMul", {"x": x, "weight": weight}, {"type": Q4_K})[0]
    assert not np.isfinite(found[:, 5]).any()
    error = np.delete(np.abs(found - products(x, values)), 5, 1)
    assert (error <= np.delete(bound(MANY, Q4_K, x, values), 5, 1)).all()


@pytest.mark.parametrize("rows", [50, 130])
@pytest.mark.parametrize("type_id", NATIVE)
def test_a_tokens_bits_do_not_depend_on_the_others(type_id: int, rows: int) -> None:
    """Within a way of multiplying: few tokens in float32, more on tensor cores.

    Those with k divided among a block's warps, eight up to 16 tokens and, if there are rows enough
    for the GPU, four up to 128, and as one sum beyond (float32 up to 256).
    """
    weight, _ = quantized(type_id, (rows, 768))
    x = activations(100, 768)
    node = session("QuantMatMul", {"type": type_id})
    few = node.run(None, {"x": x[:8], "weight": weight})[0]
    for tokens in (1, 2, 3, 5, 7):
        part = node.run(None, {"x": x[:tokens], "weight": weight})[0]
        np.testing.assert_array_equal(part, few[:tokens])
    sixteen = node.run(None, {"x": x[:16], "weight": weight})[0]
    for first, last in ((0, 9), (3, 12), (6, 16)):
        part = node.run(None, {"x": x[first:last], "weight": weight})[0]
        np.testing.assert_array_equal(part, sixteen[first:last])
    many = node.run(None, {"x": x, "weight": weight})[0]
    for first, last in ((0, 50), (50, 100), (31, 100), (3, 20)):
        part = node.run(None, {"x": x[first:last], "weight": weight})[0]
        np.testing.assert_array_equal(part, many[first:last])
    x = activations(250, 768)
    most = node.run(None, {"x": x, "weight": weight})[0]
    part = node.run(None, {"x": x[71:], "weight": weight})[0]
    np.testing.assert_array_equal(part, most[71:])


@pytest.mark.parametrize("type_id", NATIVE)
@pytest.mark.parametrize("tokens", [9, 12, 16])
def test_a_rows_bits_do_not_depend_on_the_others(type_id: int, tokens: int) -> None:
    """Few rows go in tiles of 8 tokens, many with activations that are rounded before."""
    weight, _ = quantized(type_id, (600, 768))
    x = activations(tokens, 768)
    x[1, 3], x[2, 300] = 1e9, -np.inf
    node = session("QuantMatMul", {"type": type_id})
    many = node.run(None, {"x": x, "weight": weight})[0]
    for rows in (20, 130):
        few = node.run(None, {"x": x, "weight": weight[:rows]})[0]
        np.testing.assert_array_equal(few, many[:, :rows])


@pytest.mark.parametrize("v_type", [Q4_K, Q6_K])
def test_activations_that_many_rows_read_are_rounded_before_without_a_bit_changed(
    v_type: int,
) -> None:
    types, shapes, names = (Q4_K, Q4_K, v_type), ((600, 768), (64, 768), (64, 768)), "qkv"
    feeds = {
        f"w{name}": quantized(type_id, shape, i)[0]
        for i, (name, type_id, shape) in enumerate(zip(names, types, shapes, strict=True))
    }
    node = session("QuantQKV", {f"{n}_type": t for n, t in zip(names, types, strict=True)})
    x = activations(10, 768)
    x[1, 3], x[2, 300] = 1e9, -np.inf
    many = node.run(None, {"x": x, **feeds})
    few = node.run(None, {"x": x, **{name: weight[:32] for name, weight in feeds.items()}})
    for of_many, of_few in zip(many, few, strict=True):
        np.testing.assert_array_equal(of_few, of_many[:, :32])


@pytest.mark.parametrize("type_id", [Q4_K, Q6_K])
def test_activations_that_many_tokens_have_are_rounded_before_without_a_bit_changed(
    type_id: int,
) -> None:
    weight, _ = quantized(type_id, (64, 1536))
    x = activations(60, 1536)
    x[1, 3], x[2, 300] = 1e9, -np.inf
    node = session("QuantMatMul", {"type": type_id})
    many = node.run(None, {"x": x, "weight": weight})[0]
    few = node.run(None, {"x": x[:16], "weight": weight})[0]
    np.testing.assert_array_equal(few, many[:16])


@pytest.mark.parametrize("tokens", [FEW, SOME, MANY])
def test_activations_that_float16_does_not_hold_count_as_its_largest(tokens: int) -> None:
    weight, _ = quantized(Q4_K, (33, 512))
    x = activations(tokens, 512)
    x[1, 3], x[2, 300], x[4, 7] = 1e9, -np.inf, 65504.0
    node = session("QuantMatMul", {"type": Q4_K})
    found = node.run(None, {"x": x, "weight": weight})[0]
    held = node.run(None, {"x": np.clip(x, -65504, 65504), "weight": weight})[0]
    np.testing.assert_array_equal(found, held)
    assert np.isfinite(found).all()
    x[3, 9] = np.nan
    found = node.run(None, {"x": x, "weight": weight})[0]
    assert np.isnan(found[3]).all()
    np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(held, 3, 0))


@pytest.mark.parametrize("tokens", [1, 6, FEW, SOME, MANY])
@pytest.mark.parametrize(
    "types",
    [
        (Q4_K, Q4_K, Q4_K), (Q4_K, Q4_K, Q6_K), (Q6_K, Q5_K, Q4_K), (Q5_K, Q8_0, Q6_K),
        (Q4_K, Q6_K, Q4_K), (Q8_0, F16, 11),
    ],
    ids=str,
)  # fmt: skip
def test_qkv_is_three_products(types: tuple[int, int, int], tokens: int) -> None:
    x = activations(tokens, 512)
    shapes, names = ((160, 512), (48, 512), (40, 512)), ("wq", "wk", "wv")
    made = [quantized(t, shape, i) for i, (t, shape) in enumerate(zip(types, shapes, strict=True))]
    feeds = {"x": x, **{name: blocks for name, (blocks, _) in zip(names, made, strict=True)}}
    attributes = dict(zip(("q_type", "k_type", "v_type"), types, strict=True))
    for out, type_id, (_, values) in zip(
        run("QuantQKV", feeds, attributes), types, made, strict=True
    ):
        assert (np.abs(out - products(x, values)) <= bound(tokens, type_id, x, values)).all()


@pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
def test_rows_of_every_type_are_gathered(quant: Any) -> None:
    blocks, values = quantized(quant.id, (11, 512))
    ids = np.array([3, 0, 10, 3], np.int64)
    found = run("QuantGather", {"ids": ids, "weight": blocks}, {"type": quant.id})[0]
    np.testing.assert_allclose(found, values[ids], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
def test_a_row_that_does_not_exist_is_not_read_and_comes_out_as_nan(quant: Any) -> None:
    blocks, values = quantized(quant.id, (5, 256))
    ids = np.array([-1, 4, 5, 2**40, -(2**62)], np.int64)
    found = run("QuantGather", {"ids": ids, "weight": blocks}, {"type": quant.id})[0]
    assert np.isnan(found[[0, 2, 3, 4]]).all()
    np.testing.assert_allclose(found[1], values[4], rtol=1e-6, atol=1e-9)


def test_shapes_that_do_not_fit_are_refused_with_the_contracts_words() -> None:
    weight, _ = quantized(Q4_K, (4, 512))
    with pytest.raises(
        Exception, match=r"\[QuantMatMul\] node: input weight, got shape \[4, 288\]"
    ):
        run("QuantMatMul", {"x": activations(2, 256), "weight": weight}, {"type": Q4_K})
    with pytest.raises(Exception, match="attribute type, got 99, expected a ggml type"):
        session("QuantMatMul", {"type": 99})
