"""QuantMatMul, QuantLogits and QuantQKV: activations times quantized matrices."""

from __future__ import annotations

from dataclasses import replace

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.contract import BLOCKS, FLOAT, Attr, F, Op, Port
from ferrum.custom_ops.decode.bits import FERRUM


@script(FERRUM, default_opset=op)
def QuantMatMul(x, weight, type: int):
    """x times the transposed decoded matrix, in float32."""
    matrix = FERRUM.Dequantize(weight, type=type)
    product = op.MatMul(op.Cast(x, to=1), op.Transpose(matrix, perm=[1, 0]))
    return op.CastLike(product, x)


@script(FERRUM, default_opset=op)
def QuantLogits(x, weight, type: int):
    """x times the transposed decoded matrix, in float32, and left so."""
    return QuantMatMul(op.Cast(x, to=1), weight, type=type)


@script(FERRUM, default_opset=op)
def QuantQKV(x, wq, wk, wv, q_type: int, k_type: int, v_type: int):
    """Three products of the same activations."""
    q = QuantMatMul(x, wq, type=q_type)
    k = QuantMatMul(x, wk, type=k_type)
    v = QuantMatMul(x, wv, type=v_type)
    return q, k, v


QUANT_MATMUL = Op(
    "QuantMatMul",
    since=1,
    doc="Activations times a quantized matrix, transposed; float weights go in float32.",
    inputs=(Port("x", F, "[T, K]"), Port("weight", BLOCKS, "[M, .]")),
    outputs=(Port("output", F, "[T, M]"),),
    attributes=(Attr("type", int, "ggml id of the weight's type"),),
    reference=QuantMatMul,
)

# For the router of a graph whose activations are not float32: a Cast in front of its QuantMatMul
# would be one more launch for every layer on a GPU.
QUANT_LOGITS = replace(
    QUANT_MATMUL,
    name="QuantLogits",
    doc="QuantMatMul whose output is float32 whatever x is: what a choice hangs on is not rounded.",
    outputs=(Port("output", FLOAT, "[T, M]"),),
    reference=QuantLogits,
)

QUANT_QKV = Op(
    "QuantQKV",
    since=1,
    doc="The query, key and value projections of one input.",
    inputs=(
        Port("x", F, "[T, H]"),
        Port("wq", BLOCKS, "[Hq*D, .]"),
        Port("wk", BLOCKS, "[Hkv*D, .]"),
        Port("wv", BLOCKS, "[Hkv*D, .]"),
    ),
    outputs=(Port("q", F, "[T, Hq*D]"), Port("k", F, "[T, Hkv*D]"), Port("v", F, "[T, Hkv*D]")),
    attributes=(
        Attr("q_type", int, "ggml id of wq's type"),
        Attr("k_type", int, "ggml id of wk's type"),
        Attr("v_type", int, "ggml id of wv's type"),
    ),
    reference=QuantQKV,
)
