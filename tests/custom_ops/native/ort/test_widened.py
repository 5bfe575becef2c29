"""Activations of 2 bytes on the CPU's kernels: what float32 ones give, rounded once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from activation_cases import CASES, TYPES, case, rounded
from native_node import run, session

from ferrum.custom_ops.contract import F
from ferrum.custom_ops.ops import OPS


@pytest.mark.parametrize("arithmetic", ["fast", "exact"])
@pytest.mark.parametrize("tokens", [0, 1, 7, 40])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_op_gives_float32s_results_rounded_once(
    dtype: str, name: str, tokens: int, arithmetic: str
) -> None:
    op_name, feeds, attributes = case(name, tokens, dtype)
    options = {"arithmetic": arithmetic}
    cache = {"cache": onnx.TensorProto.FLOAT16} if op_name == "PagedAttention" else {}
    wanted = run(op_name, feeds, attributes, **options, **cache)
    found = run(op_name, feeds, attributes, activation=TYPES[dtype][0], **options, **cache)
    for port, ours, theirs in zip(OPS[op_name].outputs, found, wanted, strict=True):
        exact = rounded(theirs, dtype) if port.dtype == F else theirs
        np.testing.assert_array_equal(ours, exact)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_tokens_bits_do_not_depend_on_the_others(dtype: str) -> None:
    _, feeds, attributes = case("QuantMatMul Q4_K", 40, dtype)
    node = session("QuantMatMul", attributes, activation=TYPES[dtype][0])
    whole = node.run(None, feeds)[0]
    for first, last in ((0, 1), (3, 7), (11, 40)):
        part = node.run(None, {**feeds, "x": feeds["x"][first:last]})[0]
        np.testing.assert_array_equal(part, whole[first:last])


def test_experts_that_stay_on_the_cpu_take_them_too() -> None:
    _, feeds, attributes = case("QuantMoE", 3, "bfloat16")
    wanted = run("QuantMoE", feeds, attributes, activation=onnx.TensorProto.BFLOAT16)[0]
    found = run("HostQuantMoE", feeds, attributes, activation=onnx.TensorProto.BFLOAT16)[0]
    np.testing.assert_array_equal(found, wanted)
