"""An export to break, in a folder with its own copy of the weights, and what the checks find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from ferrum.builder.check.export import Export
from ferrum.builder.check.finding import Finding
from ferrum.builder.check.run import CheckOptions, run_checks
from ferrum.builder.gguf import GGUF


@dataclass(frozen=True)
class ExportFolder:
    """An export and what may be done to it."""

    path: Path
    weights: Path
    gguf: Path  # what it was made of, elsewhere

    @contextmanager
    def graph(self) -> Iterator[onnx.ModelProto]:
        """The model, saved again at the end of the block; weights stay outside."""
        model = onnx.load(self.path, load_external_data=False)
        yield model
        self.path.write_bytes(model.SerializeToString())

    def findings(
        self, *names: str, source: bool = False, **options: int | bool
    ) -> dict[str, Finding]:
        """What the named checks (all without names) find; `source` compares with the GGUF."""
        export = Export(self.path, GGUF.open(self.gguf) if source else None)
        settings = CheckOptions(only=names, progress=False, **options)  # type: ignore[arg-type]
        return {outcome.name: outcome.finding for outcome in run_checks(export, settings)}

    def finding(self, name: str, *, source: bool = False, **options: int | bool) -> Finding:
        """What one check finds."""
        return self.findings(name, source=source, **options)[name]


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The node of that name."""
    return next(node for node in model.graph.node if node.name == name)


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """The initializer of that name."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def attribute(model: onnx.ModelProto, node_name: str, name: str) -> onnx.AttributeProto:
    """A node's attribute of that name."""
    return next(item for item in node(model, node_name).attribute if item.name == name)


def place(proto: onnx.TensorProto, key: str, value: int | str) -> None:
    """Change an entry of a tensor's external data."""
    next(entry for entry in proto.external_data if entry.key == key).value = str(value)
