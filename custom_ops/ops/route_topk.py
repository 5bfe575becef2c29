"""RouteTopK: router logits to the experts of each token and their weights."""

from __future__ import annotations

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.contract import FLOAT, INT32, Attr, Op, Port
from ferrum.custom_ops.decode.bits import FERRUM


@script(FERRUM, default_opset=op)
def RouteTopK(logits, k: int, normalize: int, scale: float):
    """Softmax over all experts, the k largest, renormalized unless their sum is no use.

    With a token more, of which nothing is kept: without any, some ONNX Runtimes (1.21 to 1.30)
    divide by zero in TopK.
    """
    count = op.Constant(value_int=k)
    tokens = op.Shape(logits, start=0, end=1)
    row = op.Concat(op.Constant(value_ints=[1]), op.Shape(logits, start=1, end=2), axis=0)
    more = op.Concat(logits, op.Expand(op.Constant(value_float=0.0), row), axis=0)
    found, places = op.TopK(
        op.Softmax(more, axis=-1), op.Unsqueeze(count, 0), axis=-1, largest=1, sorted=1
    )
    zero = op.Constant(value_ints=[0])
    top, chosen = op.Slice(found, zero, tokens, zero), op.Slice(places, zero, tokens, zero)
    total = op.ReduceSum(top, op.Constant(value_ints=[-1]), keepdims=1)
    usable = op.And(op.Greater(total, 0.0), op.Not(op.IsInf(total)))
    equal = op.Expand(1.0 / op.Cast(count, to=1), op.Shape(top))
    normed = op.Where(usable, top / total, equal)
    wanted = op.Equal(op.Constant(value_int=normalize), 1)
    weights = op.Where(wanted, normed, top) * op.Constant(value_float=scale)
    return weights, op.Cast(chosen, to=6)


ROUTE_TOPK = Op(
    "RouteTopK",
    since=1,
    doc="Softmax over all experts in float32 and the k largest, ties to the lower id; with "
    "normalize they are divided by their sum (1/k each where it is 0 or not finite).",
    inputs=(Port("logits", FLOAT, "[T, E]"),),
    outputs=(Port("weights", FLOAT, "[T, k]"), Port("experts", INT32, "[T, k]")),
    attributes=(
        Attr("k", int, "experts chosen for a token"),
        Attr("normalize", int, "1 to divide the chosen weights by their sum, else 0"),
        Attr("scale", float, "what the weights are multiplied with at the end"),
    ),
    reference=RouteTopK,
)
