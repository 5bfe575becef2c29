"""A model of one ferrum node with its reference body, to run an op by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ferrum.custom_ops.contract import DOMAIN, IR_VERSION, OPSET, VERSION, F, Port
from ferrum.custom_ops.ops import OPS
from ferrum.custom_ops.reference import functions_for

Arrays = Mapping[str, np.ndarray]


def model(
    op_name: str, inputs: Arrays, activation: int = onnx.TensorProto.FLOAT, **attributes: Any
) -> onnx.ModelProto:
    """The op over graph inputs with the shapes and types of `inputs`, in the contract's order.

    Activations of 2 bytes are float32 outside, for NumPy has no bfloat16.
    """
    op = OPS[op_name]
    cast = activation != onnx.TensorProto.FLOAT

    def inside(port: Port) -> str:
        return f"{port.name}.inside" if cast and port.dtype == F else port.name

    nodes = [op.node(list(map(inside, op.inputs)), list(map(inside, op.outputs)), "node",
                     **attributes)]  # fmt: skip
    for port in op.inputs:
        if inside(port) != port.name:
            nodes.insert(0, helper.make_node("Cast", [port.name], [inside(port)], to=activation))
    for port in op.outputs:
        if inside(port) != port.name:
            float32 = onnx.TensorProto.FLOAT
            nodes.append(helper.make_node("Cast", [inside(port)], [port.name], to=float32))
    types = {value for key, value in attributes.items() if key == "type" or key.endswith("_type")}
    graph = helper.make_graph(
        nodes,
        "one_node",
        [
            helper.make_tensor_value_info(
                p.name, helper.np_dtype_to_tensor_dtype(inputs[p.name].dtype), inputs[p.name].shape
            )
            for p in op.inputs
        ],
        [onnx.ValueInfoProto(name=p.name) for p in op.outputs],
    )
    result = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        functions=functions_for([op_name], types or {0}),
    )
    return onnx.shape_inference.infer_shapes(result, strict_mode=True)


def stock(op_name: str, inputs: Arrays, **attributes: Any) -> list[np.ndarray]:
    """The outputs of the reference body on ONNX Runtime without the ops library."""
    raw = model(op_name, inputs, **attributes).SerializeToString()
    session = ort.InferenceSession(raw, providers=["CPUExecutionProvider"])
    return session.run(None, dict(inputs))


def judged(op_name: str, inputs: Arrays, **attributes: Any) -> list[np.ndarray]:
    """The outputs of the reference body on onnx's own evaluator."""
    return ReferenceEvaluator(model(op_name, inputs, **attributes)).run(None, dict(inputs))
