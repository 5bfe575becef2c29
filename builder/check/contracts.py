"""Nodes against their contracts, and the weights against the types that nodes claim for them."""

from __future__ import annotations

from typing import Any

import onnx

from ferrum.builder.check.element_types import FLOAT_TYPES, PORT_TYPES
from ferrum.builder.check.export import Export, attributes
from ferrum.builder.check.finding import Finding, judged
from ferrum.custom_ops.contract import BLOCKS, CACHE, F, Op, Port
from ferrum.custom_ops.ops import OPS
from ferrum.custom_ops.quants import QUANTS
from ferrum.models.qwen3_moe.names import expected_tensors

_KINDS: dict[type[Any], int] = {
    int: onnx.AttributeProto.INT,
    float: onnx.AttributeProto.FLOAT,
}


def contracts(export: Export) -> Finding:
    """Ports and attributes of every node are its op's; known inputs have the ports' types."""
    types, problems = export.types, []
    for node in export.nodes:
        op = OPS.get(node.op_type)
        if op is None:
            problems.append(f"{node.name}: op {node.op_type} -> one of {', '.join(OPS)}")
        else:
            problems += [f"{node.name}: {text}" for text in _misfits(node, op, types)]
    return judged(problems, f"{len(export.nodes)} nodes: ports, attributes and types fit")


def _misfits(node: onnx.NodeProto, op: Op, types: dict[str, int]) -> list[str]:
    problems = []
    if (len(node.input), len(node.output)) != (len(op.inputs), len(op.outputs)):
        problems.append(
            f"{len(node.input)} inputs and {len(node.output)} outputs -> {len(op.inputs)} and "
            f"{len(op.outputs)}"
        )
    found = {item.name: item.type for item in node.attribute}
    wanted = {attr.name: _KINDS[attr.kind] for attr in op.attributes}
    problems += [f"attribute {name} missing" for name in wanted if name not in found]
    problems += [
        f"attribute {name} -> one of {', '.join(wanted)}" for name in found if name not in wanted
    ]
    name_of = onnx.AttributeProto.AttributeType.Name
    problems += [
        f"attribute {name} is {name_of(kind)} -> {name_of(wanted[name])}"
        for name, kind in found.items()
        if name in wanted and kind != wanted[name]
    ]
    kind = onnx.TensorProto.DataType.Name
    first: dict[str, int] = {}  # the type of the first port of each letter
    for port, value in zip(op.inputs, node.input, strict=False):
        dtype = types.get(value)
        if dtype is None:
            continue
        allowed = _allowed(port, first.setdefault(port.dtype, dtype))
        if dtype not in allowed:
            names = " or ".join(map(kind, allowed))
            problems.append(f"input {port.name} {value} is {kind(dtype)} -> {names}")
    return problems


def _allowed(port: Port, first: int) -> list[int]:
    """Types of a port; ports of one letter have the same, that of the node's first of them."""
    if port.dtype not in (F, CACHE):
        return [PORT_TYPES[port.dtype]]
    return [first] if first in FLOAT_TYPES else list(FLOAT_TYPES)


def bodies(export: Export) -> Finding:
    """Every custom op in use, here or in a body, has a local function with the op's own ports."""
    functions = {(f.domain, f.name): f for f in export.model.functions}
    problems, used = [], sorted({node.op_type for node in export.nodes})
    for name in used:
        body = functions.get(("ferrum", name))
        if body is None:
            problems.append(f"{name}: no reference body")
            continue
        op = OPS.get(name)
        if op is None:
            continue  # the contracts check says so
        ports = [len(body.input), len(body.output), sorted(body.attribute)]
        wanted = [len(op.inputs), len(op.outputs), sorted(a.name for a in op.attributes)]
        if ports != wanted:
            problems.append(f"{name}: body with inputs, outputs, attributes {ports} -> {wanted}")
    for function in export.model.functions:
        problems += [
            f"{function.name} calls {callee}, which is missing"
            for callee in sorted(_callees(function.node))
            if ("ferrum", callee) not in functions
        ]
    return judged(problems, f"{len(used)} ops have bodies; {len(functions)} functions in the model")


def _callees(nodes: Any) -> set[str]:
    found = set()
    for node in nodes:
        if node.domain == "ferrum":
            found.add(node.op_type)
        for item in node.attribute:
            if item.type == onnx.AttributeProto.GRAPH:
                found |= _callees(item.g.node)
    return found


def weights(export: Export) -> Finding:
    """Every matrix has the shape that the config asks for, in rows of whole blocks of its type.

    The type is the node's attribute; the file's own table must agree where it can be read.
    """
    shapes = dict(expected_tensors(export.config))
    stored = export.tensors
    problems, count = [], 0
    for node in export.nodes:
        op = OPS.get(node.op_type)
        ports = [] if op is None else [p.name for p in op.inputs if p.dtype == BLOCKS]
        for port in ports:
            key = {"weight": "type"}.get(port) or f"{port.removeprefix('w')}_type"
            name = node.input[[p.name for p in OPS[node.op_type].inputs].index(port)]
            type_id = attributes(node).get(key)
            tensor = export.initializers.get(name)
            if tensor is None or name not in shapes or not isinstance(type_id, int):
                problems.append(f"{node.name}: {port} {name} has no {key}, or is no weight")
                continue
            own = stored[name].type if name in stored else None
            text = _misfit(tuple(tensor.dims), shapes[name], type_id, own)
            count += 1
            if text:
                problems.append(f"{node.name}: {name} {text}")
    return judged(problems, f"{count} matrices: shapes, blocks and types fit")


def _misfit(
    dims: tuple[int, ...], shape: tuple[int, ...], type_id: int, stored: int | None
) -> str | None:
    try:
        quant = QUANTS.by_id(type_id)
    except KeyError:
        return f"type {type_id} -> a ggml type"
    try:
        wanted = (*shape[:0:-1], quant.row_bytes(shape[0]))
    except ValueError as error:
        return str(error)
    if dims != wanted:
        return f"is {list(dims)} -> {list(wanted)}, rows of {shape[0]} {quant.name} values"
    if stored is not None and stored != type_id:
        return f"taken for {quant.name} -> {QUANTS.by_id(stored).name}, as the file says"
    return None
