"""Every reference body against its definition in numpy, on ONNX Runtime and onnx's evaluator."""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
import pytest
from activation_cases import CASES, TYPES, case, rounded
from one_node import judged, stock
from oracle import attention, moe, quantized, rms_norm, route

from ferrum.custom_ops.contract import F
from ferrum.custom_ops.ops import OPS

RUNNERS = pytest.mark.parametrize("run", [stock, judged], ids=["onnxruntime", "onnx"])
Run = Callable[..., list[np.ndarray]]
Q4_0, Q8_0, Q4_K, Q6_K, F32 = 2, 8, 12, 14, 0


@RUNNERS
def test_quant_gather_decodes_the_rows_asked_for(run: Run) -> None:
    blocks, values = quantized(Q8_0, (9, 64))
    ids = np.array([3, 0, 8, 3], np.int64)
    found = run("QuantGather", {"ids": ids, "weight": blocks}, type=Q8_0)[0]
    np.testing.assert_array_equal(found, values[ids])


@RUNNERS
def test_quant_matmul_multiplies_the_decoded_matrix(run: Run) -> None:
    blocks, values = quantized(Q6_K, (5, 512))
    x = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    found = run("QuantMatMul", {"x": x, "weight": blocks}, type=Q6_K)[0]
    np.testing.assert_allclose(found, x @ values.T, rtol=1e-4, atol=1e-4)


@RUNNERS
def test_quant_qkv_takes_three_types(run: Run) -> None:
    x = np.random.default_rng(0).standard_normal((2, 256)).astype(np.float32)
    (wq, q), (wk, k), (wv, v) = (
        quantized(t, (n, 256)) for t, n in ((Q4_K, 8), (Q4_0, 4), (F32, 4))
    )
    found = run(
        "QuantQKV", {"x": x, "wq": wq, "wk": wk, "wv": wv}, q_type=Q4_K, k_type=Q4_0, v_type=F32
    )
    for got, matrix in zip(found, (q, k, v), strict=True):
        np.testing.assert_allclose(got, x @ matrix.T, rtol=1e-4, atol=1e-4)


@RUNNERS
def test_add_rms_norm_gives_the_sum_and_its_norm(run: Run) -> None:
    rng = np.random.default_rng(2)
    x, residual = (rng.standard_normal((4, 24)).astype(np.float32) for _ in range(2))
    weight = rng.standard_normal(24).astype(np.float32)
    normed, total = run(
        "AddRMSNorm", {"x": x, "residual": residual, "weight": weight}, epsilon=1e-6
    )
    np.testing.assert_array_equal(total, x + residual)
    np.testing.assert_allclose(normed, rms_norm(x + residual, weight, 1e-6), rtol=1e-5)
    alone = run("RMSNorm", {"x": x, "weight": weight}, epsilon=1e-6)[0]
    np.testing.assert_allclose(alone, rms_norm(x, weight, 1e-6), rtol=1e-5)


@RUNNERS
@pytest.mark.parametrize("normalize", [0, 1])
def test_route_topk_gives_the_largest_probabilities_in_falling_order(
    run: Run, normalize: int
) -> None:
    logits = np.random.default_rng(3).standard_normal((6, 10)).astype(np.float32)
    weights, experts = run("RouteTopK", {"logits": logits}, k=3, normalize=normalize, scale=2.5)
    wanted_weights, wanted_experts = route(logits, 3, bool(normalize), 2.5)
    assert experts.dtype == np.int32
    np.testing.assert_array_equal(experts, wanted_experts)
    np.testing.assert_allclose(weights, wanted_weights, rtol=1e-5)


@RUNNERS
def test_route_topk_breaks_ties_toward_the_lower_id(run: Run) -> None:
    logits = np.zeros((2, 8), np.float32)
    _, experts = run("RouteTopK", {"logits": logits}, k=4, normalize=1, scale=1.0)
    np.testing.assert_array_equal(experts, [[0, 1, 2, 3]] * 2)


def test_route_topk_shares_equally_where_the_sum_is_no_use() -> None:
    logits = np.full((1, 8), np.nan, np.float32)
    weights, _ = stock("RouteTopK", {"logits": logits}, k=4, normalize=1, scale=1.0)
    np.testing.assert_array_equal(weights, np.full((1, 4), 0.25, np.float32))


@RUNNERS
@pytest.mark.parametrize("op_name", ["QuantMoE", "HostQuantMoE"])
@pytest.mark.parametrize("tokens", [1, 5])
def test_quant_moe_sums_the_chosen_experts(run: Run, op_name: str, tokens: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((tokens, 256)).astype(np.float32)
    experts = np.stack([rng.permutation(4)[:2] for _ in range(tokens)]).astype(np.int32)
    weights = rng.random((tokens, 2)).astype(np.float32)
    (gate, g), (up, u), (down, d) = (
        quantized(t, s)
        for t, s in ((Q4_K, (4, 32, 256)), (Q8_0, (4, 32, 256)), (Q4_0, (4, 256, 32)))
    )
    inputs = {"x": x, "weights": weights, "experts": experts, "gate": gate, "up": up, "down": down}
    found = run(op_name, inputs, gate_type=Q4_K, up_type=Q8_0, down_type=Q4_0)[0]
    wanted = moe(x, weights, experts, g, u, d)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


ATTENTION = {
    "num_heads": 4, "kv_num_heads": 2, "scale": 8**-0.5, "epsilon": 1e-6, "rope_scale": 1.25,
}  # fmt: skip


def attention_inputs(
    lengths: list[int], past: list[int], table: list[list[int]], dtype: type = np.float32
) -> dict[str, np.ndarray]:
    """A step of sequences of so many tokens over 7 blocks of 4."""
    rng = np.random.default_rng(5)
    heads, kv_heads, dim = 4, 2, 8
    tokens = sum(lengths)
    return {
        "q": rng.standard_normal((tokens, heads * dim)).astype(np.float32),
        "k": rng.standard_normal((tokens, kv_heads * dim)).astype(np.float32),
        "v": rng.standard_normal((tokens, kv_heads * dim)).astype(np.float32),
        "key_cache": rng.standard_normal((7, 4, kv_heads, dim)).astype(dtype),
        "value_cache": rng.standard_normal((7, 4, kv_heads, dim)).astype(dtype),
        "block_table": np.array(table, np.int32),
        "cumulative_sequence_lengths": np.cumsum([0, *lengths]).astype(np.int32),
        "past_sequence_lengths": np.array(past, np.int32),
        "q_norm": rng.standard_normal(dim).astype(np.float32),
        "k_norm": rng.standard_normal(dim).astype(np.float32),
        "inv_freq": (10000.0 ** -np.linspace(0, 0.75, dim // 2)).astype(np.float32),
    }


@RUNNERS
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_paged_attention_follows_the_block_table(run: Run, dtype: type) -> None:
    inputs = attention_inputs([3, 1, 2], [5, 0, 2], [[4, 1], [6, -1], [2, -1]], dtype)
    found = run("PagedAttention", inputs, **ATTENTION)
    wanted = attention(inputs, **ATTENTION)
    tolerance = 2e-5 if dtype is np.float32 else 4e-3  # a half's rounding may fall either way
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@RUNNERS
def test_a_sequence_without_tokens_reads_and_writes_nothing(run: Run) -> None:
    """Whatever its past and its row of the table are; some ONNX Runtimes died of it."""
    alone = attention_inputs([3, 2], [5, 2], [[4, 1], [2, -1]])
    wanted = run("PagedAttention", alone, **ATTENTION)
    table = [[-1, -1], [4, 1], [3, -1], [2, -1], [-1, -1]]
    beside = attention_inputs([0, 3, 0, 2, 0], [0, 5, 3, 2, 0], table)
    for got, want in zip(run("PagedAttention", beside, **ATTENTION), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_route_topk_of_no_tokens_is_nothing() -> None:
    logits = np.zeros((0, 8), np.float32)
    weights, experts = stock("RouteTopK", {"logits": logits}, k=4, normalize=1, scale=1.0)
    assert weights.shape == experts.shape == (0, 4)


def refused(run: Run, op_name: str, inputs: dict[str, np.ndarray], **attributes: object) -> bool:
    """Whether running the op is an error, of whichever kind."""
    try:
        run(op_name, inputs, **attributes)
    except Exception:  # each runner has its own
        return True
    return False


@RUNNERS
def test_an_id_below_0_is_refused(run: Run) -> None:
    """ONNX counts such indices from the end: -1 would be the last row, expert or block."""
    blocks, _ = quantized(Q8_0, (9, 64))
    assert refused(run, "QuantGather", {"ids": np.array([3, -1]), "weight": blocks}, type=Q8_0)

    matrix, _ = quantized(Q8_0, (4, 32, 32))
    experts = {
        "x": np.ones((1, 32), np.float32), "weights": np.ones((1, 2), np.float32),
        "experts": np.array([[0, -1]], np.int32), "gate": matrix, "up": matrix, "down": matrix,
    }  # fmt: skip
    types = {"gate_type": Q8_0, "up_type": Q8_0, "down_type": Q8_0}
    assert refused(run, "QuantMoE", experts, **types)

    good = attention_inputs([3, 2], [5, 2], [[4, 1], [2, -1]])
    assert not refused(run, "PagedAttention", good, **ATTENTION)
    for name, bad in {
        "block_table": [[4, -1], [2, -1]],
        "past_sequence_lengths": [5, -1],
    }.items():
        wrong = {**good, name: np.array(bad, np.int32)}
        assert refused(run, "PagedAttention", wrong, **ATTENTION), name


def test_a_prompt_as_many_one_token_sequences_gives_the_same_rows() -> None:
    rng = np.random.default_rng(6)
    tokens, dim = 6, 8
    inputs = {
        "q": rng.standard_normal((tokens, 2 * dim)).astype(np.float32),
        "k": rng.standard_normal((tokens, dim)).astype(np.float32),
        "v": rng.standard_normal((tokens, dim)).astype(np.float32),
        "key_cache": np.zeros((3, 4, 1, dim), np.float32),
        "value_cache": np.zeros((3, 4, 1, dim), np.float32),
        "block_table": np.array([[2, 0]], np.int32),
        "cumulative_sequence_lengths": np.array([0, tokens], np.int32),
        "past_sequence_lengths": np.array([0], np.int32),
        "q_norm": np.ones(dim, np.float32),
        "k_norm": np.ones(dim, np.float32),
        "inv_freq": np.ones(dim // 2, np.float32),
    }
    attributes = {
        "num_heads": 2, "kv_num_heads": 1, "scale": 0.3, "epsilon": 1e-6, "rope_scale": 1.0,
    }  # fmt: skip
    whole = stock("PagedAttention", inputs, **attributes)
    inputs["block_table"] = np.repeat(inputs["block_table"], tokens, axis=0)
    inputs["cumulative_sequence_lengths"] = np.arange(tokens + 1, dtype=np.int32)
    inputs["past_sequence_lengths"] = np.arange(tokens, dtype=np.int32)
    cut = stock("PagedAttention", inputs, **attributes)
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@RUNNERS
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_activations_of_2_bytes_give_float32s_results_rounded_once(
    run: Run, dtype: str, name: str
) -> None:
    op_name, feeds, attributes = case(name, 4, dtype)
    wanted = run(op_name, feeds, **attributes)
    found = run(op_name, feeds, activation=TYPES[dtype][0], **attributes)
    for port, ours, theirs in zip(OPS[op_name].outputs, found, wanted, strict=True):
        exact = rounded(theirs, dtype) if port.dtype == F else theirs
        np.testing.assert_array_equal(ours, exact)


def test_types_of_the_oracle_are_ggufs() -> None:
    assert [gguf.GGMLQuantizationType(t).name for t in (Q4_0, Q8_0, Q4_K, Q6_K, F32)] == [
        "Q4_0", "Q8_0", "Q4_K", "Q6_K", "F32",
    ]  # fmt: skip
