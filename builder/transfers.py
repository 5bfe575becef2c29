"""An export for a GPU and a CPU together: what lies on either side, and what crosses in a step.

All of it follows from the graph: which nodes have a kernel for the CPU alone, what they read and
who reads them; and from the contracts, which know each value's type and shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from ferrum.builder.check.export import Export
from ferrum.custom_ops.contract import FLOAT, INT32, INT64, F, Port
from ferrum.custom_ops.ops import OPS

_ITEM_BYTES = {FLOAT: 4, INT32: 4, INT64: 8}
_ACTIVATION_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Crossing:
    """Values copied in a step from one side to the other: one copy each."""

    values: tuple[str, ...]
    bytes_per_token: int


@dataclass(frozen=True)
class HostNode:
    """A node that runs on the CPU beside a GPU; `down` comes from the GPU, `up` goes to it."""

    name: str
    weight_bytes: int
    down: Crossing
    up: Crossing


@dataclass(frozen=True)
class Transfers:
    """Of a whole export; weights that no node on the CPU reads lie in the GPU's memory."""

    nodes: tuple[HostNode, ...]
    host_bytes: int
    gpu_bytes: int

    @property
    def down(self) -> Crossing:
        """All that a step copies from the GPU."""
        return _together(node.down for node in self.nodes)

    @property
    def up(self) -> Crossing:
        """All that a step copies to the GPU."""
        return _together(node.up for node in self.nodes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return {**asdict(self), "down": asdict(self.down), "up": asdict(self.up)}


def transfers(export: Export) -> Transfers | None:
    """What a step on a GPU copies; None for a graph that a GPU runs alone."""
    graph, host = export.model.graph, export.host_nodes
    if not host:
        return None
    names = {node.name for node in host}
    needed = {value for node in graph.node if node.name not in names for value in node.input}
    needed |= {output.name for output in graph.output}
    sizes = {name: reference.length for name, reference in export.references.items()}
    there = export.initializers.keys() | {value for node in host for value in node.output}
    nodes = []
    for node in host:
        op = OPS[node.op_type]
        inputs = dict(zip(node.input, op.inputs, strict=True))
        outputs = dict(zip(node.output, op.outputs, strict=True))
        nodes.append(
            HostNode(
                name=node.name,
                weight_bytes=sum(sizes.get(name, 0) for name in inputs),
                down=_crossing(inputs, inputs.keys() - there, export),
                up=_crossing(outputs, outputs.keys() & needed, export),
            )
        )
        there |= inputs.keys()  # copied once, whoever else reads it
    read = {value for node in host for value in node.input}
    return Transfers(
        tuple(nodes),
        host_bytes=sum(size for name, size in sizes.items() if name in read),
        gpu_bytes=sum(size for name, size in sizes.items() if name in needed),
    )


def _crossing(ports: Mapping[str, Port], chosen: Set[str], export: Export) -> Crossing:
    values = tuple(name for name in ports if name in chosen)
    return Crossing(values, sum(_bytes_per_token(ports[name], export) for name in values))


def _bytes_per_token(port: Port, export: Export) -> int:
    """Of a contract's shape such as [T, H], for one token."""
    config = export.config
    sizes = {"T": 1, "H": config.hidden, "k": config.experts_per_token, "E": config.experts}
    item = _ACTIVATION_BYTES[export.dtype] if port.dtype == F else _ITEM_BYTES[port.dtype]
    return item * prod(sizes[word] for word in port.shape[1:-1].split(", "))


def _together(crossings: Iterable[Crossing]) -> Crossing:
    all_of_them = tuple(crossings)
    return Crossing(
        tuple(value for crossing in all_of_them for value in crossing.values),
        sum(crossing.bytes_per_token for crossing in all_of_them),
    )
