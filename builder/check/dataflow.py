"""The graph against the one that ferrum.models writes for its config: counts, wiring, constants.

The expected graph is written anew from the config in the metadata and the tensor table of the
weights, so a node that was dropped, rewired or given another constant shows by name.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from ferrum.builder.build import decoded_norms
from ferrum.builder.check.export import Export, NotChecked, attributes
from ferrum.builder.check.finding import Finding, judged
from ferrum.custom_ops.ops import OPS
from ferrum.models.qwen3_moe.config import ModelError
from ferrum.models.qwen3_moe.graph import Qwen3MoeGraph
from ferrum.models.qwen3_moe.names import check_tensors

_LAYER = re.compile(r"blk\.(\d+)\.")


def expected_model(export: Export) -> onnx.ModelProto:
    """What the builder writes for this config and these files; NotChecked where it refuses."""
    gguf = export.beside
    try:
        check_tensors(export.config, gguf.tensors)
    except ModelError as error:
        raise NotChecked(f"the tensors beside the graph are not its config's: {error}") from error
    locations = {tensor.path: tensor.path.name for tensor in export.tensors.values()}
    writer = Qwen3MoeGraph(
        export.config,
        export.tensors,
        locations,
        export.kv_dtype,
        decoded_norms(gguf),
        export.cpu_experts,
        export.dtype,
    )
    return writer.write().model("", {})


def node_counts(export: Export) -> Finding:
    """As many nodes of each op in each layer as the config asks for."""
    found, wanted = _counts(export.model), _counts(expected_model(export))
    problems = [
        f"{layer}: {found[layer, op]} {op} -> {wanted[layer, op]}"
        for layer, op in sorted(set(found) | set(wanted))
        if found[layer, op] != wanted[layer, op]
    ]
    per_layer = sum(wanted["blk.0", op] for op in OPS)
    layers = export.config.layers
    return judged(
        problems, f"{len(export.model.graph.node)} nodes; {per_layer} in each of {layers} layers"
    )


def _counts(model: onnx.ModelProto) -> Counter[tuple[str, str]]:
    def layer(name: str) -> str:
        match = _LAYER.match(name)
        return f"blk.{match[1]}" if match else "model"

    return Counter((layer(node.name), node.op_type) for node in model.graph.node)


def wiring(export: Export) -> Finding:
    """Every port is fed with the value that the forward pass gives it."""
    found, wanted = export.model.graph, expected_model(export).graph
    ours, theirs = ({node.name: node for node in graph.node} for graph in (found, wanted))
    problems = [f"node {name}: missing" for name in theirs if name not in ours]
    problems += [f"node {name}: not of this model" for name in ours if name not in theirs]
    if len(ours) != len(found.node):
        problems.append("two nodes have the same name")
    for name in theirs.keys() & ours.keys():
        problems += [f"{name}: {text}" for text in _rewired(ours[name], theirs[name])]
    for kind, values, others in (
        ("input", found.input, wanted.input), ("output", found.output, wanted.output)
    ):  # fmt: skip
        have, want = ({v.name: v for v in vs} for vs in (values, others))
        problems += [
            f"graph {kind} {name}: not as the config asks"
            for name in sorted(have.keys() | want.keys())
            if have.get(name) != want.get(name)
        ]
    return judged(sorted(problems), f"{len(found.node)} nodes fed as the forward pass says")


def _rewired(node: onnx.NodeProto, wanted: onnx.NodeProto) -> list[str]:
    if (node.domain, node.op_type) != (wanted.domain, wanted.op_type):
        return [f"{node.op_type} -> {wanted.op_type}"]
    op = OPS.get(node.op_type)
    problems = []
    for direction, ours, theirs in (
        ("input", node.input, wanted.input), ("output", node.output, wanted.output)
    ):  # fmt: skip
        if len(ours) != len(theirs):
            problems.append(f"{len(ours)} {direction}s -> {len(theirs)}")
            continue
        ports = [] if op is None else op.inputs if direction == "input" else op.outputs
        for i, (got, want) in enumerate(zip(ours, theirs, strict=True)):
            if got != want:
                port = ports[i].name if i < len(ports) else f"{direction} {i}"
                problems.append(f"{port} is {got} -> {want}")
    return problems


def constants(export: Export) -> Finding:
    """Attributes (heads, k, epsilon, scales, types) and stored tensors equal the config's."""
    expected = expected_model(export)
    theirs = {node.name: node for node in expected.graph.node}
    problems, count = [], 0
    for node in export.model.graph.node:
        if node.name not in theirs:
            continue  # the wiring says so
        got, want = attributes(node), attributes(theirs[node.name])
        count += len(want)
        problems += [
            f"{node.name}: {name} {_shown(got.get(name))} -> {_shown(want.get(name))}"
            for name in sorted(got.keys() | want.keys())
            if got.get(name) != want.get(name)
        ]
    initializers = {tensor.name: tensor for tensor in expected.graph.initializer}
    problems += _other_initializers(export.initializers, initializers)
    stored = sum(1 for t in initializers.values() if not t.external_data)
    return judged(problems, f"{count} attributes and {stored} stored tensors, inv_freq among them")


def _other_initializers(
    ours: dict[str, onnx.TensorProto], theirs: dict[str, onnx.TensorProto]
) -> list[str]:
    problems = [f"{name}: not of this model" for name in ours if name not in theirs]
    for name, want in theirs.items():
        got = ours.get(name)
        if got is None:
            problems.append(f"{name}: missing")
        elif (got.data_type, list(got.dims)) != (want.data_type, list(want.dims)):
            kind = onnx.TensorProto.DataType.Name
            problems.append(
                f"{name}: {kind(got.data_type)}{list(got.dims)} -> "
                f"{kind(want.data_type)}{list(want.dims)}"
            )
        elif bool(got.external_data) != bool(want.external_data):
            problems.append(f"{name}: stored in the graph or outside, other than built")
        elif not want.external_data:
            problems += _other_values(name, got, want)
    return problems


def _other_values(name: str, got: onnx.TensorProto, want: onnx.TensorProto) -> list[str]:
    ours: npt.NDArray[Any] = numpy_helper.to_array(got)
    theirs: npt.NDArray[Any] = numpy_helper.to_array(want)
    if np.array_equal(ours, theirs):
        return []
    at = tuple(np.argwhere(ours != theirs)[0])
    where = "".join(f"[{i}]" for i in at)
    return [f"{name}{where} {ours[at]:g} -> {theirs[at]:g}"]


def _shown(value: object) -> str:
    return "missing" if value is None else f"{value:g}" if isinstance(value, float) else repr(value)
