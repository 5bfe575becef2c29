"""What an op of the `ferrum` domain promises, declared once.

From a contract are derived the local function that travels in the model, the node that a graph
holds, the page OPS.md, the oracle of every kernel test and the comparison with what the loaded
library says of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

DOMAIN = "ferrum"
VERSION = 1
OPSET = 18  # the standard ops of reference bodies and graphs: what any ONNX Runtime accepts
IR_VERSION = 8

# Element types of ports. F is the graph's activation type, CACHE the caches' own.
F = "f"
FLOAT = "float32"
INT32 = "int32"
INT64 = "int64"
BLOCKS = "uint8 blocks"
CACHE = "cache"


@dataclass(frozen=True)
class Port:
    """An input or output: its name, element type and shape in the words of DESIGN's table."""

    name: str
    dtype: str
    shape: str


@dataclass(frozen=True)
class Attr:
    """An attribute; all are required, so that a graph says everything itself."""

    name: str
    kind: type[int] | type[float]
    doc: str


@dataclass(frozen=True)
class Op:
    """One op: ports, attributes, and a body in standard ONNX ops (an onnxscript function)."""

    name: str
    since: int
    doc: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    attributes: tuple[Attr, ...]
    reference: Any
    host: bool = False  # has a kernel for the CPU alone: runs there in every session

    def node(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        **attributes: int | float,
    ) -> onnx.NodeProto:
        """A node of this op; TypeError where ports or attributes are not the contract's."""
        if len(inputs) != len(self.inputs) or len(outputs) != len(self.outputs):
            raise TypeError(
                f"[{self.name}] {name}: {len(inputs)} inputs and {len(outputs)} outputs -> "
                f"{len(self.inputs)} and {len(self.outputs)}"
            )
        wanted = {attr.name: attr.kind for attr in self.attributes}
        if set(attributes) != set(wanted):
            raise TypeError(
                f"[{self.name}] {name}: attributes {sorted(attributes)} -> {sorted(wanted)}"
            )
        typed = {key: wanted[key](value) for key, value in attributes.items()}
        node = helper.make_node(self.name, inputs, outputs, name=name, domain=DOMAIN)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in typed.items())
        return node

    def function(self) -> onnx.FunctionProto:
        """The reference body as a local function of the model."""
        return local_function(self.reference)


def local_function(script: Any) -> onnx.FunctionProto:
    """An onnxscript function as a FunctionProto that every checker, evaluator and runtime accepts.

    onnxscript leaves out of `opset_import` a domain that only branches of an If use: the checker
    and ONNX Runtime then refuse the model. And it leaves out the condition of a counted Loop,
    which onnx's own evaluator takes for false.
    """
    proto: onnx.FunctionProto = script.to_function_proto()
    proto.domain = DOMAIN
    imported = {entry.domain for entry in proto.opset_import}
    for domain, version in (("", OPSET), (DOMAIN, VERSION)):
        if domain not in imported:
            proto.opset_import.append(helper.make_opsetid(domain, version))
    loops = [node for node in proto.node if node.op_type == "Loop" and not node.input[1]]
    for loop in loops:
        loop.input[1] = "always"
    if loops:
        always = helper.make_tensor("always", onnx.TensorProto.BOOL, [], [True])
        proto.node.insert(0, helper.make_node("Constant", [], ["always"], value=always))
    return proto
