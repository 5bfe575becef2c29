"""RMSNorm and AddRMSNorm: a row over its root mean square, times a weight."""

from __future__ import annotations

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.contract import FLOAT, Attr, F, Op, Port
from ferrum.custom_ops.decode.bits import FERRUM


@script(FERRUM, default_opset=op)
def RMSNorm(x, weight, epsilon: float):
    """x / sqrt(mean(x^2) + epsilon) * weight, in float32 (Zhang and Sennrich, 2019)."""
    wide = op.Cast(x, to=1)
    mean = op.ReduceMean(wide * wide, op.Constant(value_ints=[-1]), keepdims=1)
    normed = wide / op.Sqrt(mean + op.Constant(value_float=epsilon)) * weight
    return op.CastLike(normed, x)


@script(FERRUM, default_opset=op)
def AddRMSNorm(x, residual, weight, epsilon: float):
    """The end of one block joined to the start of the next: their sum, and its norm.

    The norm is that of the sum in float32, before it is rounded to x's type.
    """
    total = op.Cast(x, to=1) + op.Cast(residual, to=1)
    normed = RMSNorm(total, weight, epsilon=epsilon)
    return op.CastLike(normed, x), op.CastLike(total, x)


_EPSILON = Attr("epsilon", float, "added to the mean square")

RMS_NORM = Op(
    "RMSNorm",
    since=1,
    doc="normed = x / sqrt(mean(x^2) + epsilon) * weight: the model's first norm.",
    inputs=(Port("x", F, "[T, H]"), Port("weight", FLOAT, "[H]")),
    outputs=(Port("normed", F, "[T, H]"),),
    attributes=(_EPSILON,),
    reference=RMSNorm,
)

ADD_RMS_NORM = Op(
    "AddRMSNorm",
    since=1,
    doc="sum = x + residual; normed = sum / sqrt(mean(sum^2) + epsilon) * weight.",
    inputs=(Port("x", F, "[T, H]"), Port("residual", F, "[T, H]"), Port("weight", FLOAT, "[H]")),
    outputs=(Port("normed", F, "[T, H]"), Port("sum", F, "[T, H]")),
    attributes=(_EPSILON,),
    reference=AddRMSNorm,
)
