"""QuantMatMul and QuantQKV on the library: right for every type and shape, whatever the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_node import run, session
from oracle import quantized

from ferrum.custom_ops.library import describe
from ferrum.custom_ops.quants import QUANTS

F32, F16, BF16, Q4_0, Q8_0, Q4_K, Q6_K, IQ4_XS = 0, 1, 30, 2, 8, 12, 14, 23
FLOATS = (F32, F16, BF16)
ISAS = describe()["isas"]
# By type, the instruction sets whose fast products round activations to bfloat16.
ROUNDING = {quant["id"]: quant["bfloat16"] for quant in describe()["quants"]}


def activations(tokens: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, k)).astype(np.float32)


def float32_bound(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Most that k float32 products, added in any order, are off by: k roundings of their size."""
    k = x.shape[-1]
    return np.abs(x).astype(np.float64) @ np.abs(values).T * (k + 8) * 2.0**-24 + 1e-30


def int8_bound(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Most that activations in int8, one scale per 32, are off by: half a step each."""
    tokens, k = x.shape
    steps = np.abs(x).reshape(tokens, k // 32, 32).max(2) / 127
    half = np.repeat(steps / 2, 32, axis=1).astype(np.float64)
    return half @ np.abs(values).T * 1.01 + float32_bound(x, values)


def bfloat16_bound(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Most that activations rounded to bfloat16 are off by: half a step of 8 bits each."""
    return 2.0**-8 * np.abs(x) @ np.abs(values).T * 1.01 + float32_bound(x, values)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
def test_every_type_is_multiplied_within_its_arithmetics_error(quant: Any, isa: str) -> None:
    blocks, values = quantized(quant.id, (33, 512))
    x = activations(3, 512)
    wanted = x.astype(np.float64) @ values.T.astype(np.float64)
    feeds = {"x": x, "weight": blocks}
    exact = run("QuantMatMul", feeds, {"type": quant.id}, isa=isa, arithmetic="exact")[0]
    assert (np.abs(exact - wanted) <= float32_bound(x, values)).all()
    fast = run("QuantMatMul", feeds, {"type": quant.id}, isa=isa)[0]
    if isa in ROUNDING[quant.id]:
        assert (np.abs(fast - wanted) <= bfloat16_bound(x, values)).all()
        assert not np.array_equal(fast, exact)
    elif quant.id in FLOATS:
        np.testing.assert_array_equal(fast, exact)
    else:
        assert (np.abs(fast - wanted) <= int8_bound(x, values)).all()
        assert not np.array_equal(fast, exact)


@settings(max_examples=30, deadline=None)
@given(
    type_id=st.sampled_from([F32, F16, Q4_0, Q8_0, Q4_K, Q6_K, IQ4_XS]),
    tokens=st.integers(0, 40),
    rows=st.integers(1, 130),
    blocks_in_row=st.integers(1, 5),
)
def test_odd_shapes_come_out_right(
    type_id: int, tokens: int, rows: int, blocks_in_row: int
) -> None:
    k = QUANTS.by_id(type_id).block * blocks_in_row
    blocks, values = quantized(type_id, (rows, k))
    x = activations(tokens, k)
    found = run("QuantMatMul", {"x": x, "weight": blocks}, {"type": type_id})[0]
    assert found.shape == (tokens, rows)
    bound = float32_bound(x, values) if type_id in FLOATS else int8_bound(x, values)
    assert (np.abs(found - x.astype(np.float64) @ values.T) <= bound).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("arithmetic", ["fast", "exact"])
@pytest.mark.parametrize("type_id", [F32, F16, BF16, Q4_0, Q8_0, Q4_K, Q6_K, IQ4_XS])
def test_a_row_has_the_same_bits_in_any_batch_and_on_any_threads(
    type_id: int, arithmetic: str, isa: str
) -> None:
    blocks, _ = quantized(type_id, (75, 768))
    x = activations(70, 768)
    node = session("QuantMatMul", {"type": type_id}, arithmetic=arithmetic, isa=isa)
    whole = node.run(None, {"x": x, "weight": blocks})[0]
    for batch in (1, 7, 30):
        parts = [
            node.run(None, {"x": x[at : at + batch], "weight": blocks})[0]
            for at in range(0, 70, batch)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    for threads in (1, 3):
        other = session(
            "QuantMatMul", {"type": type_id}, arithmetic=arithmetic, isa=isa, threads=threads
        )
        np.testing.assert_array_equal(other.run(None, {"x": x, "weight": blocks})[0], whole)


@pytest.mark.parametrize("types", [(Q4_K, Q4_K, Q6_K), (Q8_0, F32, Q4_0), (F16, F16, F16)])
def test_qkv_gives_the_bits_of_three_products(types: tuple[int, int, int]) -> None:
    rows = (96, 34, 40)
    weights = [quantized(t, (n, 256))[0] for t, n in zip(types, rows, strict=True)]
    x = activations(5, 256)
    feeds = {"x": x} | dict(zip(("wq", "wk", "wv"), weights, strict=True))
    attributes = dict(zip(("q_type", "k_type", "v_type"), types, strict=True))
    # The fast products of Q8_0 differ: QuantMatMul takes its activations in two int8 terms.
    together = run("QuantQKV", feeds, attributes, arithmetic="exact")
    for found, weight, type_id in zip(together, weights, types, strict=True):
        alone = run(
            "QuantMatMul", {"x": x, "weight": weight}, {"type": type_id}, arithmetic="exact"
        )
        np.testing.assert_array_equal(found, alone[0])


def test_two_int8_terms_come_within_a_hundredth_of_one_terms_error() -> None:
    type_id = Q8_0  # which QuantMatMul multiplies with two terms, QuantQKV with one
    blocks, values = quantized(type_id, (64, 512))
    x = activations(8, 512)
    wanted = x.astype(np.float64) @ values.astype(np.float64).T
    two = run("QuantMatMul", {"x": x, "weight": blocks}, {"type": type_id})[0]
    one = run(
        "QuantQKV",
        {"x": x, "wq": blocks, "wk": blocks, "wv": blocks},
        {"q_type": type_id, "k_type": type_id, "v_type": type_id},
    )[0]
    error_of_one, error_of_two = (np.sqrt(((y - wanted) ** 2).mean()) for y in (one, two))
    assert error_of_two < 0.01 * error_of_one


def test_values_that_are_no_numbers_stay_in_their_row() -> None:
    blocks, _ = quantized(Q4_K, (20, 256))
    x = activations(4, 256)
    clean = run("QuantMatMul", {"x": x, "weight": blocks}, {"type": Q4_K})[0]
    for bad in (np.nan, np.inf, -np.inf, 3e38):
        spoiled = x.copy()
        spoiled[2, 17] = bad
        found = run("QuantMatMul", {"x": spoiled, "weight": blocks}, {"type": Q4_K})[0]
        np.testing.assert_array_equal(np.delete(found, 2, 0), np.delete(clean, 2, 0))


def test_no_tokens_give_no_rows() -> None:
    blocks, _ = quantized(Q8_0, (7, 64))
    empty = np.empty((0, 64), np.float32)
    assert run("QuantMatMul", {"x": empty, "weight": blocks}, {"type": Q8_0})[0].shape == (0, 7)


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "message"),
    [
        ((2, 250), (5, 144), "rows of 250 values, expected a multiple of Q4_K's block of 256"),
        ((2, 512), (5, 144), r"shape \[5, 144\], expected rows of 288 bytes"),
        ((2, 256), (5, 288), r"shape \[5, 288\], expected rows of 144 bytes"),
        ((2, 256), (5, 143), r"shape \[5, 143\], expected rows of 144 bytes"),
        ((256,), (5, 144), "input x, got rank 1, expected rank 2"),
        ((1, 2, 256), (5, 144), "input x, got rank 3, expected rank 2"),
        ((2, 256), (1, 5, 144), "input weight, got rank 3, expected rank 2"),
    ],
)
def test_misfits_are_refused_with_node_input_expected_and_got(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], message: str
) -> None:
    feeds = {"x": np.zeros(x_shape, np.float32), "weight": np.zeros(weight_shape, np.uint8)}
    with pytest.raises(Exception, match=rf"\[QuantMatMul\] blk.3.o: .*{message}"):
        run("QuantMatMul", feeds, {"type": Q4_K}, name="blk.3.o")


@pytest.mark.parametrize("type_id", [-1, 4, 5, 36, 99, 2**31, -(2**63)])
def test_an_unknown_type_is_refused_when_the_session_is_made(type_id: int) -> None:
    with pytest.raises(Exception, match=r"\[QuantMatMul\] lm_head: attribute type, got -?\d+, exp"):
        session("QuantMatMul", {"type": type_id}, name="lm_head")


def test_a_missing_type_is_refused_when_the_session_is_made() -> None:
    with pytest.raises(Exception, match=r"\[QuantMatMul\] node: attribute type is missing"):
        session("QuantMatMul", {})
