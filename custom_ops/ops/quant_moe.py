"""QuantMoE: each token through its chosen experts, summed with their weights."""

from __future__ import annotations

from dataclasses import replace

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.contract import BLOCKS, FLOAT, INT32, Attr, F, Op, Port
from ferrum.custom_ops.decode.bits import FERRUM
from ferrum.custom_ops.ops.index import Counted


@script(FERRUM, default_opset=op)
def ExpertProduct(x, stack, expert, type: int):
    """x times one expert's transposed matrix: only that expert is decoded."""
    matrix = FERRUM.Dequantize(op.Gather(stack, expert), type=type)
    return op.MatMul(x, op.Transpose(matrix, perm=[1, 0]))


@script(FERRUM, default_opset=op)
def QuantMoE(x, weights, experts, gate, up, down, gate_type: int, up_type: int, down_type: int):
    """A loop over the experts in use; each decodes its matrices once for all its tokens."""
    wide = op.Cast(x, to=1)
    ids = Counted(op.Cast(experts, to=7))
    used, _first, _inverse, _counts = op.Unique(ids)
    width = op.Shape(x, start=1, end=2)
    pairs = op.ConstantOfShape(op.Concat(op.Shape(ids), width, axis=0))
    for i in range(op.Size(used)):
        expert = op.Gather(used, i)
        at = op.Transpose(op.NonZero(op.Equal(ids, expert)), perm=[1, 0])
        tokens = op.Gather(wide, op.Gather(at, 0, axis=1))
        gated = ExpertProduct(tokens, gate, expert, type=gate_type)
        raised = ExpertProduct(tokens, up, expert, type=up_type)
        hidden = gated * op.Sigmoid(gated) * raised
        product = ExpertProduct(hidden, down, expert, type=down_type)
        pairs = op.ScatterND(pairs, at, product)
    weighted = pairs * op.Unsqueeze(weights, op.Constant(value_ints=[2]))
    return op.CastLike(op.ReduceSum(weighted, op.Constant(value_ints=[1]), keepdims=0), x)


@script(FERRUM, default_opset=op)
def HostQuantMoE(x, weights, experts, gate, up, down, gate_type: int, up_type: int, down_type: int):
    """QuantMoE itself: where nothing else is known of the op, that is all it means."""
    return FERRUM.QuantMoE(
        x, weights, experts, gate, up, down,
        gate_type=gate_type, up_type=up_type, down_type=down_type,
    )  # fmt: skip


QUANT_MOE = Op(
    "QuantMoE",
    since=1,
    doc="Sum over the k slots, in slot order, of weight * down(silu(gate(x)) * up(x)).",
    inputs=(
        Port("x", F, "[T, H]"),
        Port("weights", FLOAT, "[T, k]"),
        Port("experts", INT32, "[T, k]"),
        Port("gate", BLOCKS, "[E, I, .]"),
        Port("up", BLOCKS, "[E, I, .]"),
        Port("down", BLOCKS, "[E, H, .]"),
    ),
    outputs=(Port("output", F, "[T, H]"),),
    attributes=(
        Attr("gate_type", int, "ggml id of gate's type"),
        Attr("up_type", int, "ggml id of up's type"),
        Attr("down_type", int, "ggml id of down's type"),
    ),
    reference=QuantMoE,
)

# ONNX Runtime places nodes by the name of their op: so this name, and nothing that a session must
# be told, keeps a layer's experts in the host's memory where the rest runs on a GPU.
HOST_QUANT_MOE = replace(
    QUANT_MOE,
    name="HostQuantMoE",
    doc="QuantMoE that runs on the CPU in every session: its matrices stay in the host's memory.",
    reference=HostQuantMoE,
    host=True,
)
