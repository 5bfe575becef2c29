"""A graph being written: nodes from contracts, weights that stay where they are in their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ferrum.custom_ops.contract import DOMAIN, IR_VERSION, OPSET, VERSION
from ferrum.custom_ops.ops import OPS
from ferrum.custom_ops.quants import QUANTS
from ferrum.custom_ops.reference import functions_for


class StoredTensor(Protocol):
    """What a graph must know of a tensor: where its bytes lie and what they mean."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...  # ggml order: innermost first
    @property
    def type(self) -> int: ...  # ggml id
    @property
    def path(self) -> Path: ...
    @property
    def offset(self) -> int: ...
    @property
    def nbytes(self) -> int: ...


class Graph:
    """Collects nodes, weights, inputs and outputs, and makes the model of them.

    `locations` names, for each file of weights, the file that the .onnx will refer to: a name in
    its own folder.
    """

    def __init__(self, name: str, locations: Mapping[Path, str]) -> None:
        self._name = name
        self._locations = locations
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._types: set[int] = set()

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """Declare a graph input; returns its name."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """Declare a graph output; returns its name."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def op(
        self,
        kind: str,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        **attributes: int | float,
    ) -> None:
        """Add a node of the ferrum domain, checked against its contract."""
        self._types |= {int(v) for k, v in attributes.items() if k == "type" or k.endswith("_type")}
        self._nodes.append(OPS[kind].node(inputs, outputs, name, **attributes))

    def standard(
        self, kind: str, name: str, inputs: Sequence[str], output: str, **attributes: int
    ) -> None:
        """Add a node of a standard ONNX op with one output."""
        node = helper.make_node(kind, inputs, [output], name=name)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self._nodes.append(node)

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """A small tensor stored in the .onnx itself; returns its name."""
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def blocks(self, tensor: StoredTensor) -> str:
        """A matrix or stack as uint8[..., rows, row bytes], in place; returns its name."""
        row = QUANTS.by_id(tensor.type).row_bytes(tensor.shape[0])
        return self._external(tensor, TensorProto.UINT8, [*tensor.shape[:0:-1], row])

    def floats(self, tensor: StoredTensor) -> str:
        """A float32 vector, in place; returns its name. Its type must be F32."""
        if QUANTS.by_id(tensor.type).name != "F32":
            raise ValueError(f"{tensor.name}: type id {tensor.type} -> F32 for a float32 reference")
        return self._external(tensor, TensorProto.FLOAT, list(tensor.shape[::-1]))

    def _external(self, tensor: StoredTensor, dtype: int, dims: Sequence[int]) -> str:
        proto = TensorProto(name=tensor.name, data_type=dtype, dims=dims)
        proto.data_location = TensorProto.EXTERNAL
        where = (
            ("location", self._locations[tensor.path]),
            ("offset", str(tensor.offset)),
            ("length", str(tensor.nbytes)),
        )
        for key, value in where:
            proto.external_data.add(key=key, value=value)
        self._initializers[tensor.name] = proto
        return tensor.name

    def model(self, producer_version: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model, with the reference body of every op it uses."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._initializers.values())
        )
        used = {node.op_type for node in self._nodes if node.domain == DOMAIN}
        model = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
            functions=functions_for([name for name in OPS if name in used], self._types),
            producer_name="ferrum",
            producer_version=producer_version,
        )
        helper.set_model_props(model, dict(metadata))
        return model
