"""An export as the checks see it: the graph without its weights, and the files beside it."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto
from pydantic import TypeAdapter, ValidationError

from ferrum.builder.check.element_types import FLOAT_TYPES, activation_type, element_types
from ferrum.builder.gguf import GGUF, GGUFError, Tensor
from ferrum.builder.layout import LAYOUTS, Relaid, plan_layout
from ferrum.builder.manifest import COMPANIONS
from ferrum.builder.tokenizer import Tokenizer, read_tokenizer
from ferrum.custom_ops.contract import DOMAIN
from ferrum.custom_ops.ops import OPS
from ferrum.models.qwen3_moe.config import ARCHITECTURE, Qwen3MoeConfig

_MOST_BYTES = (2 << 30) - 1  # of a protobuf message


class ExportError(ValueError):
    """A file that is not an export of ferrum-build; the message is one line."""


class NotChecked(Exception):
    """A check has nothing to go by; the message says what is missing."""


@dataclass(frozen=True)
class Reference:
    """Where the graph says that a tensor's bytes lie."""

    name: str
    location: str
    offset: int
    length: int
    dtype: int
    dims: tuple[int, ...]

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.offset + self.length


class Export:
    """An .onnx, its config and, on demand, the tensor tables of the GGUF files that it refers to.

    `source` is the GGUF to compare with, where one was given. ExportError unless the file is an
    ONNX model with ferrum's metadata.
    """

    def __init__(self, path: Path, source: GGUF | None = None) -> None:
        self.path, self.folder, self.source = path, path.parent, source
        try:
            self.model = onnx.load_model_from_string(_read(path))
        except OSError as error:
            raise ExportError(f"[{path}] cannot be read: {error.strerror or error}") from error
        except DecodeError as error:
            raise ExportError(f"[{path}] not an ONNX model: {error}") from error
        self.metadata = {entry.key: entry.value for entry in self.model.metadata_props}
        self.config = self._config()
        self.records = self._records()

    def _value(self, key: str) -> Any:
        if key not in self.metadata:
            raise ExportError(f"[{self.path}] metadata {key}: missing -> an export of ferrum-build")
        try:
            return json.loads(self.metadata[key])
        except json.JSONDecodeError as error:
            raise ExportError(f"[{self.path}] metadata {key}: not JSON: {error}") from error

    def _config(self) -> Qwen3MoeConfig:
        value = self._value("ferrum.config")
        if not isinstance(value, dict) or value.pop("architecture", None) != ARCHITECTURE:
            raise ExportError(f"[{self.path}] metadata ferrum.config -> one of {ARCHITECTURE}")
        wanted = {field.name for field in fields(Qwen3MoeConfig)}
        if set(value) != wanted:
            odd = ", ".join(sorted(set(value) ^ wanted))
            raise ExportError(f"[{self.path}] metadata ferrum.config: missing or unknown: {odd}")
        try:
            return TypeAdapter(Qwen3MoeConfig).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ExportError(
                f"[{self.path}] metadata ferrum.config: {key}: {first['msg']}"
            ) from error

    def _records(self) -> list[dict[str, Any]]:
        value = self._value("ferrum.source")
        wanted = {"file": str, "bytes": int, "header_bytes": int, "header_sha256": str}
        sound = isinstance(value, list) and value and all(
            isinstance(row, dict)
            and {key: type(entry) for key, entry in row.items() if key != "layout"} == wanted
            and row.get("layout", "cuda") in LAYOUTS
            for row in value
        )  # fmt: skip
        if not sound or "layout" in value[0]:
            raise ExportError(f"[{self.path}] metadata ferrum.source -> rows of {sorted(wanted)}")
        records: list[dict[str, Any]] = value
        return records

    @property
    def files(self) -> list[Path]:
        """The .onnx and what belongs beside it, there or not."""
        names = [self.path.name, *(record["file"] for record in self.records), *COMPANIONS]
        return [self.folder / name for name in names]

    @property
    def layout_record(self) -> dict[str, Any] | None:
        """What the build recorded of the file of re-laid weights; None where it wrote none."""
        return next((record for record in self.records if "layout" in record), None)

    @cached_property
    def initializers(self) -> dict[str, onnx.TensorProto]:
        """All initializers by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def references(self) -> dict[str, Reference]:
        """The initializers whose data are external; ExportError where an entry is malformed."""
        return {
            name: self._reference(tensor)
            for name, tensor in self.initializers.items()
            if tensor.data_location == TensorProto.EXTERNAL
        }

    def _reference(self, tensor: onnx.TensorProto) -> Reference:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        try:
            return Reference(
                tensor.name,
                entries["location"],
                int(entries.get("offset", "0")),
                int(entries["length"]),
                tensor.data_type,
                tuple(tensor.dims),
            )
        except (KeyError, ValueError) as error:
            raise ExportError(
                f"[{tensor.name}] external data {entries} -> location, offset, length"
            ) from error

    @cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        """The graph's nodes of ferrum's domain, in order."""
        return [node for node in self.model.graph.node if node.domain == DOMAIN]

    @cached_property
    def host_nodes(self) -> list[onnx.NodeProto]:
        """Those that run on the CPU whatever the rest runs on, in order."""
        host = {op.name for op in OPS.values() if op.host}
        return [node for node in self.nodes if node.op_type in host]

    @property
    def cpu_experts(self) -> int:
        """How many layers' experts these nodes are."""
        return len(self.host_nodes)

    @cached_property
    def beside(self) -> GGUF:
        """The tensor tables of the files beside the .onnx; NotChecked where they are no model."""
        try:
            return GGUF.open(self.folder / self.records[0]["file"])
        except GGUFError as error:
            raise NotChecked(f"the weight files cannot be read: {error}") from error

    @cached_property
    def relaid(self) -> Relaid | None:
        """The re-laid weights as a build of the files beside the .onnx lays them."""
        record = self.layout_record
        if record is None:
            return None
        file = self.folder / record["file"]
        return plan_layout(self.beside, file, record["layout"], self.cpu_experts)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The weights, each where the graph should find it."""
        return {**self.beside.tensors, **(self.relaid.tensors if self.relaid else {})}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What a build makes of the GGUF that was given, else of the one beside the .onnx."""
        return read_tokenizer(self.source or self.beside)

    @property
    def kv_dtype(self) -> str:
        """The element type of the caches: float32, float16 or bfloat16."""
        for value in self.model.graph.input:
            if value.name == "past_key_values.0.key":
                kind = FLOAT_TYPES.get(value.type.tensor_type.elem_type)
                if kind is not None:
                    return kind
        raise NotChecked("input past_key_values.0.key is missing or of no cache's type")

    @cached_property
    def types(self) -> dict[str, int]:
        """The element type of every value that the contracts tell one for."""
        return element_types(self.model)

    @property
    def dtype(self) -> str:
        """The element type of activations, as the first norm has it."""
        for node in self.nodes:
            if node.op_type == "RMSNorm":
                return activation_type(node, self.types)
        return "float32"


def _read(path: Path) -> bytes:
    """The whole file, once it may be a graph: a model's weights would fill the memory."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # asked before opening, which would wait on a pipe
        raise ExportError(f"[{path}] not a regular file -> an .onnx written by ferrum-build")
    with path.open("rb") as file:
        if file.read(4) == b"GGUF":
            raise ExportError(f"[{path}] a GGUF -> the .onnx that ferrum-build made of it")
        if status.st_size > _MOST_BYTES:
            raise ExportError(f"[{path}] {status.st_size:,} bytes -> at most {_MOST_BYTES:,}")
        file.seek(0)
        return file.read()


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
