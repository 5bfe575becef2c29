"""The local functions that a model carries: the ops' bodies and what they call.

`Dequantize` is made for the ggml types that occur in the model: one If per type on the type
attribute, so that a file holds only the decoders it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import onnx
from onnx import helper

from ferrum.custom_ops.contract import DOMAIN, OPSET, VERSION, local_function
from ferrum.custom_ops.decode import bits, float_types, i_quants, k_quants, small_blocks
from ferrum.custom_ops.ops import (
    OPS,
    embedding,
    paged_attention,
    quant_matmul,
    quant_moe,
    rms_norm,
    route_topk,
)
from ferrum.custom_ops.planes import cuts
from ferrum.custom_ops.quants import QUANTS, Quant

_MODULES: tuple[ModuleType, ...] = (
    bits, float_types, small_blocks, k_quants, i_quants,
    embedding, quant_matmul, rms_norm, route_topk, quant_moe, paged_attention,
)  # fmt: skip


def _scripts() -> dict[str, Any]:
    """Every onnxscript function of the package, by name."""
    return {
        name: value
        for module in _MODULES
        for name, value in vars(module).items()
        if hasattr(value, "to_function_proto")
    }


def decoder_name(quant: Quant) -> str:
    """The name of the function that decodes rows of that type."""
    return f"Decode{quant.name}"


def dequantize_function(type_ids: Iterable[int]) -> onnx.FunctionProto:
    """`Dequantize(rows; type)`: uint8[R, bytes] to float32[R, columns] by the type's decoder.

    An id that is none of `type_ids` is decoded as the first, which the builder never asks for.
    """
    quants = [QUANTS.by_id(type_id) for type_id in sorted(set(type_ids))]
    nodes = [_decoder_node(quants[0], "values_0")]
    for i, quant in enumerate(quants[1:], 1):
        nodes = _choice(quant, i, nodes)
    nodes[-1].output[0] = "values"
    wanted = helper.make_node("Constant", [], ["wanted"])
    wanted.attribute.append(
        onnx.AttributeProto(name="value_int", ref_attr_name="type", type=onnx.AttributeProto.INT)
    )
    return helper.make_function(
        DOMAIN,
        "Dequantize",
        ["rows"],
        ["values"],
        [wanted, *nodes],
        [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        ["type"],
    )


def planes_decoder(quant: Quant) -> onnx.FunctionProto:
    """`Decode<name>(rows)` of a layout in planes: its blocks put together, and their decoder.

    `rows` must be a whole matrix.
    """
    assert quant.blocks is not None

    def call(name: str, inputs: list[str], output: str, **attributes: int) -> onnx.NodeProto:
        node = helper.make_node(name, inputs, [output], domain=DOMAIN)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        return node

    begins = [0, *cuts(quant)]
    fields = [f"field_{i}" for i in range(len(begins))]
    return helper.make_function(
        DOMAIN,
        decoder_name(quant),
        ["rows"],
        ["values"],
        [
            call("Blocks", ["rows"], "planes", bytes=quant.bytes),
            *(
                call("Plane", ["planes"], field, begin=begin, size=size)
                for field, begin, size in zip(fields, begins, quant.fields, strict=True)
            ),
            helper.make_node("Concat", fields, ["blocks"], axis=1),
            call("InRows", ["blocks", "rows"], "in_rows"),
            call(decoder_name(quant.blocks), ["in_rows"], "values"),
        ],
        [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
    )


def _decoder_node(quant: Quant, output: str) -> onnx.NodeProto:
    return helper.make_node(decoder_name(quant), ["rows"], [output], domain=DOMAIN)


def _choice(quant: Quant, i: int, otherwise: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes that decode as `quant` if its id is wanted, else as `otherwise` does."""
    then_name, result = f"decoded_{i}", f"values_{i}"
    return [
        helper.make_node("Constant", [], [f"id_{i}"], value_int=quant.id),
        helper.make_node("Equal", ["wanted", f"id_{i}"], [f"is_{i}"]),
        helper.make_node(
            "If",
            [f"is_{i}"],
            [result],
            then_branch=_branch([_decoder_node(quant, then_name)], f"{quant.name}_rows"),
            else_branch=_branch(otherwise, f"not_{quant.name}"),
        ),
    ]


def _branch(nodes: list[onnx.NodeProto], name: str) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [output])


def functions_for(op_names: Iterable[str], type_ids: Iterable[int]) -> list[onnx.FunctionProto]:
    """The bodies of those ops and, once each, all functions that they call, callees first."""
    protos = {"Dequantize": dequantize_function(type_ids)}
    protos |= {decoder_name(quant): planes_decoder(quant) for quant in QUANTS.planes}
    scripts = _scripts()
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name not in protos:
            protos[name] = local_function(scripts[name])
        for callee in _callees(protos[name].node):
            visit(callee)
        order.append(name)

    for name in op_names:
        if name not in OPS:
            raise KeyError(f"unknown op {name!r}; known: {', '.join(OPS)}")
        visit(name)
    return [protos[name] for name in order]


def _callees(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Names of the domain's functions that these nodes call, subgraphs included."""
    for node in nodes:
        if node.domain == DOMAIN:
            yield node.op_type
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _callees(attribute.g.node)
