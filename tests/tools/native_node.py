"""One ferrum node on the native library: what the op tests run.

The model carries no reference body and no shapes, so that every check that a test sees is the
library's own. ONNX Runtime's arena is off: each tensor is an allocation of its own, and a sanitized
build sees a read or write past it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from ferrum.custom_ops import register
from ferrum.custom_ops.contract import DOMAIN, IR_VERSION, OPSET, VERSION, F, Op, Port
from ferrum.custom_ops.ops import OPS

Arrays = Mapping[str, np.ndarray]

_TYPES = {
    "f": onnx.TensorProto.FLOAT,
    "float32": onnx.TensorProto.FLOAT,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
    "uint8 blocks": onnx.TensorProto.UINT8,
}


def bare_model(
    op: Op,
    name: str,
    cache: int,
    attributes: Mapping[str, Any],
    activation: int = onnx.TensorProto.FLOAT,
) -> onnx.ModelProto:
    """The node over inputs of the contract's types; attributes are taken as they are.

    NumPy has no bfloat16, so activations of 2 bytes go in and come out as float32, through Cast
    nodes.
    """
    cast = activation != onnx.TensorProto.FLOAT

    def inside(port: Port) -> str:
        return f"{port.name}.inside" if cast and port.dtype == F else port.name

    def casts(ports: tuple[Port, ...]) -> list[Port]:
        return [port for port in ports if inside(port) != port.name]

    nodes = [
        *(
            helper.make_node("Cast", [port.name], [inside(port)], to=activation)
            for port in casts(op.inputs)
        ),
        helper.make_node(
            op.name,
            [inside(port) for port in op.inputs],
            [inside(port) for port in op.outputs],
            name=name,
            domain=DOMAIN,
            **attributes,
        ),
        *(
            helper.make_node("Cast", [inside(port)], [port.name], to=onnx.TensorProto.FLOAT)
            for port in casts(op.outputs)
        ),
    ]
    inputs, outputs = (
        [
            helper.make_tensor_value_info(port.name, _TYPES.get(port.dtype, cache), None)
            for port in ports
        ]
        for ports in (op.inputs, op.outputs)
    )
    return helper.make_model(
        helper.make_graph(nodes, "bare", inputs, outputs),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
    )


def session(
    op_name: str,
    attributes: Mapping[str, Any],
    *,
    threads: int = 2,
    name: str = "node",
    cache: int = onnx.TensorProto.FLOAT,
    activation: int = onnx.TensorProto.FLOAT,
    provider: str = "CPUExecutionProvider",
    **settings: Any,
) -> ort.InferenceSession:
    """A session of one node; `settings` are `ferrum.custom_ops.register`'s."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # errors are raised too; the log would only repeat them
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    register(options, **settings)
    model = bare_model(OPS[op_name], name, cache, attributes, activation)
    made = ort.InferenceSession(model.SerializeToString(), options, providers=[provider])
    assert made.get_providers()[0] == provider  # ONNX Runtime falls back without a word
    return made


def run(
    op_name: str, inputs: Arrays, attributes: Mapping[str, Any], **settings: Any
) -> list[np.ndarray]:
    """The node's outputs over a session of its own."""
    outputs: list[np.ndarray] = session(op_name, attributes, **settings).run(None, dict(inputs))
    return outputs
