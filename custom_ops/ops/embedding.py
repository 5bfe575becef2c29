"""QuantGather: token ids to rows of the embedding matrix."""

from __future__ import annotations

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.contract import BLOCKS, FLOAT, INT64, Attr, Op, Port
from ferrum.custom_ops.decode.bits import FERRUM
from ferrum.custom_ops.ops.index import Counted


@script(FERRUM, default_opset=op)
def QuantGather(ids, weight, type: int):
    """Decodes only the rows asked for."""
    return FERRUM.Dequantize(op.Gather(weight, Counted(ids)), type=type)


QUANT_GATHER = Op(
    "QuantGather",
    since=1,
    doc="The decoded rows of a quantized matrix that the ids name; always float32, for no input "
    "tells another type.",
    inputs=(Port("ids", INT64, "[T]"), Port("weight", BLOCKS, "[V, .]")),
    outputs=(Port("output", FLOAT, "[T, H]"),),
    attributes=(Attr("type", int, "ggml id of the weight's type"),),
    reference=QuantGather,
)
