"""One node of an export by itself, on its reference body or on the library's kernels.

NumPy knows no bfloat16, so activations of 2 bytes are fed, and come back, as float32: Cast nodes
around the node convert them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from ferrum.builder.check.element_types import FLOAT_TYPES, activation_type
from ferrum.builder.check.export import Export
from ferrum.builder.check.placement import CPU
from ferrum.custom_ops.contract import DOMAIN, F, Op, Port
from ferrum.custom_ops.library import Arithmetic, register

Arrays = Mapping[str, npt.NDArray[Any]]


class OneNode:
    """A node whose inputs are fed and outputs read by the names of its op's ports.

    Activations are float32 in `feeds` and must be numbers of the node's own type.
    """

    def __init__(self, export: Export, node: onnx.NodeProto, op: Op, feeds: Arrays) -> None:
        self._export, self._feeds = export, dict(feeds)
        dtype = activation_type(node, export.types)
        own = next(number for number, name in FLOAT_TYPES.items() if name == dtype)
        cast = own != onnx.TensorProto.FLOAT

        def inside(port: Port) -> str:
            return f"{port.name}.{dtype}" if cast and port.dtype == F else port.name

        alone = onnx.NodeProto()
        alone.CopyFrom(node)
        del alone.input[:], alone.output[:]
        alone.input.extend(map(inside, op.inputs))
        alone.output.extend(map(inside, op.outputs))
        make = onnx.helper.make_node
        self._nodes = [
            *(make("Cast", [p.name], [inside(p)], to=own) for p in op.inputs
              if inside(p) != p.name),
            alone,
            *(make("Cast", [inside(p)], [p.name], to=onnx.TensorProto.FLOAT) for p in op.outputs
              if inside(p) != p.name),
        ]  # fmt: skip
        self._outputs = [port.name for port in op.outputs]

    def body(self) -> list[npt.NDArray[Any]]:
        """The outputs of the model's own reference body, on ONNX Runtime without the library."""
        return self._run(ort.SessionOptions())

    def kernel(self, arithmetic: Arithmetic) -> list[npt.NDArray[Any]]:
        """The outputs of the library's kernel."""
        options = ort.SessionOptions()
        register(options, arithmetic=arithmetic)
        return self._run(options)

    def _run(self, options: ort.SessionOptions) -> list[npt.NDArray[Any]]:
        options.log_severity_level = 4  # errors are raised too
        model = model_of(self._export, self._nodes, self._outputs, self._feeds)
        session = ort.InferenceSession(model, options, providers=[CPU])
        outputs: list[npt.NDArray[Any]] = session.run(None, self._feeds)
        return outputs


def decode(export: Export, type_id: int, rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Rows of blocks [rows, bytes] as the model's own Dequantize decodes them."""
    node = onnx.helper.make_node("Dequantize", ["rows"], ["values"], domain=DOMAIN, type=type_id)
    model = model_of(export, [node], ["values"], {"rows": rows})
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=[CPU])
    return np.asarray(session.run(None, {"rows": rows})[0], np.float64)


def model_of(
    export: Export, nodes: list[onnx.NodeProto], results: list[str], feeds: Arrays
) -> bytes:
    """A model of those nodes over fed inputs, with the export's functions and versions."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in results]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "one_node", inputs, outputs),
        ir_version=export.model.ir_version,
        opset_imports=list(export.model.opset_import),
        functions=list(export.model.functions),
    )
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
