"""Every op that takes activations, with inputs of odd sizes: for tests of their element types.

What an op gives for activations of 2 bytes follows from what it gives for the same numbers in
float32: that, rounded once.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
from attention_steps import Layer, random_step
from oracle import quantized

F32, F16, Q8_0, Q4_K, Q6_K = 0, 1, 8, 12, 14
TYPES: dict[str, tuple[int, Any]] = {
    "float16": (onnx.TensorProto.FLOAT16, np.float16),
    "bfloat16": (onnx.TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}
# Inputs and outputs that are activations; those of any other name keep their type.
ACTIVATIONS = ("x", "residual", "q", "k", "v")
Case = tuple[str, dict[str, np.ndarray], dict[str, Any]]


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest numbers of that type, as float32."""
    return array.astype(TYPES[dtype][1]).astype(np.float32)


def case(name: str, tokens: int, dtype: str) -> Case:
    """Op, feeds and attributes; activations are numbers of that type, in float32."""
    op_name, feeds, attributes = CASES[name](tokens)
    for key in ACTIVATIONS:
        if key in feeds:
            feeds[key] = rounded(feeds[key], dtype)
    return op_name, feeds, attributes


def _floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([*shape, seed]).standard_normal(shape).astype(np.float32)


def _product(type_id: int, rows: int, k: int, op_name: str = "QuantMatMul") -> Any:
    def make(tokens: int) -> Case:
        feeds = {"x": _floats(tokens, k), "weight": quantized(type_id, (rows, k))[0]}
        return op_name, feeds, {"type": type_id}

    return make


def _qkv(tokens: int) -> Case:
    types = {"q_type": Q4_K, "k_type": Q4_K, "v_type": Q6_K}
    feeds = {"x": _floats(tokens, 512)}
    for i, (name, type_id) in enumerate(zip(("wq", "wk", "wv"), types.values(), strict=True)):
        feeds[name] = quantized(type_id, (48 + i, 512), i)[0]
    return "QuantQKV", feeds, types


def _norm(columns: int, *, add: bool) -> Any:
    def make(tokens: int) -> Case:
        feeds = {"x": _floats(tokens, columns), "weight": _floats(columns)}
        if add:
            feeds["residual"] = _floats(tokens, columns, seed=1)
        return "AddRMSNorm" if add else "RMSNorm", feeds, {"epsilon": 1e-6}

    return make


def _experts(gate: int, up: int, hidden: int) -> Any:
    def make(tokens: int) -> Case:
        rng = np.random.default_rng(tokens)
        feeds = {
            "x": _floats(tokens, hidden),
            "weights": rng.dirichlet(np.ones(3), tokens).astype(np.float32).reshape(tokens, 3),
            "experts": np.argsort(rng.random((tokens, 6)), axis=1)[:, :3].astype(np.int32),
            "gate": quantized(gate, (6, 96, hidden), 1)[0],
            "up": quantized(up, (6, 96, hidden), 2)[0],
            "down": quantized(Q8_0, (6, hidden, 96), 3)[0],
        }
        return "QuantMoE", feeds, {"gate_type": gate, "up_type": up, "down_type": Q8_0}

    return make


def _attention(dim: int, heads: int, kv_heads: int) -> Any:
    def make(tokens: int) -> Case:
        layer = Layer(heads, kv_heads, dim, "float16")
        cut = tokens // 3
        sequences = [(tokens - cut, 5), (cut, 21)] if cut else [(tokens, 37)]
        return "PagedAttention", random_step(layer, sequences, 16), layer.attributes

    return make


CASES: dict[str, Any] = {
    "QuantMatMul Q4_K": _product(Q4_K, 70, 512),
    "QuantMatMul Q8_0, k no whole stages": _product(Q8_0, 33, 160),
    "QuantMatMul F16, odd k": _product(F16, 33, 77),
    "QuantMatMul F32, odd k": _product(F32, 33, 83),
    "QuantMatMul Q6_K, many rows": _product(Q6_K, 520, 256),
    "QuantMatMul Q3_K": _product(11, 33, 512),  # a type that is dequantized first
    "QuantLogits F32": _product(F32, 16, 256, "QuantLogits"),
    "QuantLogits Q4_K": _product(Q4_K, 70, 512, "QuantLogits"),
    "QuantQKV": _qkv,
    "RMSNorm": _norm(260, add=False),
    "RMSNorm, odd columns": _norm(331, add=False),
    "AddRMSNorm": _norm(256, add=True),
    "AddRMSNorm, long odd rows": _norm(2050 * 2 + 1, add=True),
    "QuantMoE": _experts(Q4_K, Q4_K, 256),
    "QuantMoE of two types": _experts(Q4_K, Q8_0, 256),
    "PagedAttention of 64": _attention(64, 4, 2),
    "PagedAttention of 128": _attention(128, 8, 1),
    "PagedAttention of 80": _attention(80, 4, 2),
    "PagedAttention of 34": _attention(34, 4, 2),
}
