"""Activations of 2 bytes on the CUDA kernels: what float32 ones give, rounded once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from activation_cases import CASES, TYPES, case, rounded
from cuda_node import ON_GPU, run
from oracle import quantized

from ferrum.custom_ops.contract import F
from ferrum.custom_ops.ops import OPS

Q8_0 = 8


# One token and a few go to kernels that multiply in float32, many to tensor cores. A GPU's time is
# short.
@pytest.mark.parametrize("tokens", [1, 12, 40] if ON_GPU else [0, 1, 2, 7, 12, 40, 150])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_op_gives_float32s_results_rounded_once(dtype: str, name: str, tokens: int) -> None:
    check(dtype, name, tokens)


@pytest.mark.parametrize("name", ["QuantLogits F32", "QuantMatMul F32, odd k", "QuantMoE"])
@pytest.mark.parametrize("dtype", TYPES)
def test_so_do_those_that_have_other_kernels_in_a_prefill(dtype: str, name: str) -> None:
    check(dtype, name, 300)


def check(dtype: str, name: str, tokens: int) -> None:
    op_name, feeds, attributes = case(name, tokens, dtype)
    cache = {"cache": onnx.TensorProto.FLOAT16} if op_name == "PagedAttention" else {}
    wanted = run(op_name, feeds, attributes, **cache)
    found = run(op_name, feeds, attributes, activation=TYPES[dtype][0], **cache)
    for port, ours, theirs in zip(OPS[op_name].outputs, found, wanted, strict=True):
        exact = rounded(theirs, dtype) if port.dtype == F else theirs
        if ON_GPU and port.dtype == F:  # where nvcc may fuse other operations
            unit = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
            np.testing.assert_allclose(ours, exact, rtol=unit, atol=2.0**-24)
        else:
            np.testing.assert_array_equal(ours, exact)


@pytest.mark.parametrize("way", ["one", "few", "grouped"])
@pytest.mark.parametrize("fused", ["fused", "unfused"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_way_of_the_experts_does_so(dtype: str, fused: str, way: str) -> None:
    op_name, feeds, attributes = case("QuantMoE", 30, dtype)
    settings = {"moe_path": way, "moe_gate_up": fused}
    wanted = run(op_name, feeds, attributes, **settings)[0]
    found = run(op_name, feeds, attributes, activation=TYPES[dtype][0], **settings)[0]
    unit = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype] if ON_GPU else 0.0
    np.testing.assert_allclose(found, rounded(wanted, dtype), rtol=unit, atol=0)


@pytest.mark.parametrize("tokens", [1, 40])
def test_results_beyond_float16_become_infinite(tokens: int) -> None:
    blocks, values = quantized(Q8_0, (16, 64))
    x = np.where(values[3] > 0, 60_000, -60_000).astype(np.float32)[None].repeat(tokens, 0)
    wanted = run("QuantMatMul", {"x": x, "weight": blocks}, {"type": Q8_0})[0]
    assert wanted[0, 3] > 65_520
    found = run("QuantMatMul", {"x": x, "weight": blocks}, {"type": Q8_0},
                activation=onnx.TensorProto.FLOAT16)[0]  # fmt: skip
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, rounded(wanted, "float16"))
    assert np.isposinf(found[:, 3]).all()


@pytest.mark.parametrize("tokens", [1, 40])
def test_an_infinite_activation_is_no_finite_one(tokens: int) -> None:
    """Float16 can hold it, so tensor cores meet it as it is: no overflow goes unseen."""
    blocks, _ = quantized(Q8_0, (16, 64))
    x = np.ones((tokens, 64), np.float32)
    x[0, 5] = np.inf
    found = run("QuantMatMul", {"x": x, "weight": blocks}, {"type": Q8_0},
                activation=onnx.TensorProto.FLOAT16)[0]  # fmt: skip
    assert not np.isfinite(found[0]).any()
    assert np.isfinite(found[1:]).all()
