"""The element type of every value in a graph, as the contracts tell it, and what types round to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from ferrum.custom_ops.contract import BLOCKS, DOMAIN, FLOAT, INT32, INT64, F, Op, Port
from ferrum.custom_ops.ops import OPS
from ferrum.models.qwen3_moe.graph import DTYPES

# What activations and caches may be.
FLOAT_TYPES: dict[int, str] = {number: name for name, number in DTYPES.items()}
PORT_TYPES: dict[str, int] = {
    FLOAT: TensorProto.FLOAT,
    INT32: TensorProto.INT32,
    INT64: TensorProto.INT64,
    BLOCKS: TensorProto.UINT8,
}


@dataclass(frozen=True)
class Rounding:
    """To nearest: relative by at most `unit`, or absolute by at most half of `least`."""

    unit: float
    least: float


ROUNDINGS = {
    "float32": Rounding(0.0, 0.0),  # what was computed in float32 stays as it is
    "float16": Rounding(2.0**-11, 2.0**-24),
    "bfloat16": Rounding(2.0**-8, 2.0**-133),
}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Types of inputs, initializers and, from node to node, of what is made of them.

    A value that only an unknown op could tell the type of is missing.
    """
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        op = OPS.get(node.op_type) if node.domain == DOMAIN else None
        for i, output in enumerate(node.output):
            found = _of_standard(node, types) if op is None else _of_port(op, i, node, types)
            if found is not None:
                types[output] = found
    return types


def _of_standard(node: onnx.NodeProto, types: dict[str, int]) -> int | None:
    """Of the few standard ops in a graph: a Cast says it, the others keep their input's."""
    for item in node.attribute:
        if node.op_type == "Cast" and item.name == "to":
            return int(item.i)
    return types.get(node.input[0]) if node.input else None


def _of_port(op: Op, output: int, node: onnx.NodeProto, types: dict[str, int]) -> int | None:
    if output >= len(op.outputs):
        return None
    port = op.outputs[output]
    return PORT_TYPES.get(port.dtype) or _like(port, op, node, types)


def _like(port: Port, op: Op, node: onnx.NodeProto, types: dict[str, int]) -> int | None:
    """The type of the first input whose port has the same letter."""
    for other, value in zip(op.inputs, node.input, strict=False):
        if other.dtype == port.dtype:
            return types.get(value)
    return None


def activation_type(node: onnx.NodeProto, types: dict[str, int]) -> str:
    """float32, float16 or bfloat16: what a node of ferrum's takes and gives as activations."""
    found = _like(Port("", F, ""), OPS[node.op_type], node, types)
    return "float32" if found is None else FLOAT_TYPES.get(found, "float32")


def rounded(x: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.float32]:
    """The nearest numbers of that type, ties to even, as float32."""
    if dtype == "float16":
        return np.asarray(x.astype(np.float16), np.float32)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x).view(np.uint32)
        even = bits + 0x7FFF + (bits >> 16 & 1)
        return np.asarray(even & 0xFFFF0000, np.uint32).view(np.float32)
    return x
