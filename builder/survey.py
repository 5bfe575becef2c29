"""What a model is: config, types and sizes, memory at run time, where and on what it will run."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferrum.builder.build import model_config
from ferrum.builder.check.export import Export, ExportError, NotChecked
from ferrum.builder.check.finding import first_line
from ferrum.builder.check.placement import CPU, check_library, session
from ferrum.builder.gguf import GGUF, Tensor
from ferrum.builder.transfers import Transfers, transfers
from ferrum.custom_ops.library import describe, library_path
from ferrum.custom_ops.quants import QUANTS
from ferrum.models.qwen3_moe.config import Qwen3MoeConfig

_CACHE_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class TypeRow:
    """One ggml type in the model; `multiplied`: int8, bfloat16 or float32; `kernel`: the unit that
    does."""

    name: str
    tensors: int
    bytes: int
    bits_per_weight: float
    multiplied: str
    kernel: str


@dataclass(frozen=True)
class RoleRow:
    """Tensors of one role (attn_q, ffn_gate_exps, ...) over all layers, with their types."""

    name: str
    shape: tuple[int, ...]  # outermost first
    types: dict[str, int]
    bytes: int


@dataclass(frozen=True)
class Memory:
    """Bytes at run time for `batch` sequences of `context` tokens."""

    context: int
    batch: int
    weights: int  # mapped from the file: shared between processes, dropped under pressure
    kv_per_token: int
    kv_caches: int
    logits: int
    read_per_token: int  # weights that decoding one token touches


@dataclass(frozen=True)
class Survey:
    """All of it; `graph` is None for a GGUF, `transfers` too where a GPU runs the graph alone."""

    path: Path
    inputs: tuple[Path, ...]  # the model's files, which no report may replace
    config: Qwen3MoeConfig
    files: tuple[dict[str, Any], ...]
    parameters: int
    kv_dtype: str
    types: tuple[TypeRow, ...]
    roles: tuple[RoleRow, ...]
    memory: Memory
    machine: dict[str, Any]
    graph: dict[str, Any] | None
    transfers: Transfers | None
    tensors: dict[str, Tensor]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return {
            "path": str(self.path),
            "files": list(self.files),
            "parameters": self.parameters,
            "config": self.config.as_dict(),
            "kv_dtype": self.kv_dtype,
            "types": [asdict(row) for row in self.types],
            "tensors": [asdict(row) for row in self.roles],
            "memory": asdict(self.memory),
            "machine": self.machine,
            "graph": self.graph,
            "transfers": None if self.transfers is None else self.transfers.as_dict(),
        }


def survey(path: Path, *, context: int | None = None, batch: int = 1) -> Survey:
    """Look at an .onnx of ferrum-build or at a GGUF; weights are not read.

    GGUFError, ModelError or ExportError where it is neither, LibraryError where this machine's
    kernels cannot be had; all are ValueErrors of one line.
    """
    check_library()
    graph, crossing, kv_dtype = None, None, "float16"
    if path.suffix == ".onnx":
        export = Export(path)
        try:
            gguf, kv_dtype = export.beside, export.kv_dtype
        except NotChecked as reason:
            raise ExportError(f"[{path}] {reason}") from reason
        config, graph, crossing = export.config, _graph(export), transfers(export)
        tensors, relaid, inputs = export.tensors, export.relaid, export.files
    else:
        gguf, relaid, inputs = GGUF.open(path), None, [path]
        config, tensors = model_config(gguf, None), gguf.tensors
    files = [{"file": file.path.name, "bytes": file.size} for file in gguf.files]
    if relaid:
        files.append({"file": relaid.path.name, "bytes": relaid.size})
    return Survey(
        path=path,
        inputs=(*inputs, *(file.path for file in gguf.files)),
        config=config,
        files=tuple(files),
        parameters=sum(_values(tensor) for tensor in tensors.values()),
        kv_dtype=kv_dtype,
        types=tuple(_types(tensors.values())),
        roles=tuple(_roles(tensors.values())),
        memory=_memory(config, tensors, kv_dtype, context or config.context_length, batch),
        machine=_machine(),
        graph=graph,
        transfers=crossing,
        tensors=tensors,
    )


def _graph(export: Export) -> dict[str, Any]:
    """What is in the .onnx, and the provider that ONNX Runtime gives each node on this machine."""
    try:
        loaded, placed = session(export), Counter[str]()
    except Exception as error:  # ONNX Runtime's derive from nothing else
        raise ExportError(
            f"[{export.path}] ONNX Runtime refuses it: {first_line(error)} -> see ferrum-check"
        ) from error
    if hasattr(loaded, "get_provider_graph_assignment_info"):
        for group in loaded.get_provider_graph_assignment_info():
            placed[group.ep_name] += len(group.get_nodes())
    else:
        placed[CPU] = len(export.model.graph.node)  # the only provider that was asked for
    return {
        "bytes": export.path.stat().st_size,
        "nodes": len(export.model.graph.node),
        "functions": len(export.model.functions),
        "ferrum": export.metadata.get("ferrum.version"),
        "activation_dtype": export.dtype,
        "nodes_on": dict(placed),
    }


def _types(tensors: Iterable[Tensor]) -> list[TypeRow]:
    library, by_type = describe(), defaultdict(list)
    for tensor in tensors:
        by_type[tensor.type].append(tensor)
    int8 = {quant["id"]: quant["int8"] for quant in library["quants"]}
    bfloat16 = {q["id"] for q in library["quants"] if library["isa"] in q["bfloat16"]}
    rows = []
    for type_id, own in by_type.items():
        quant, units = QUANTS.by_id(type_id), int8.get(type_id, [])
        # The fast path takes int8 on every instruction set that has a kernel for the type.
        rows.append(
            TypeRow(
                quant.name,
                len(own),
                sum(tensor.nbytes for tensor in own),
                quant.bytes * 8 / quant.block,
                "int8" if units else "bfloat16" if type_id in bfloat16 else "float32",
                _unit(library["isa"], units),
            )
        )
    return sorted(rows, key=lambda row: -row.bytes)


def _unit(isa: str, int8_units: list[str]) -> str:
    if not int8_units or isa in int8_units:
        return isa
    return "generic"


def _roles(tensors: Iterable[Tensor]) -> list[RoleRow]:
    by_role: dict[tuple[str, tuple[int, ...]], list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        role = tensor.name.split(".", 2)[2] if tensor.name.startswith("blk.") else tensor.name
        by_role[role.removesuffix(".weight"), tensor.shape].append(tensor)
    rows = []
    for (role, shape), own in by_role.items():
        types: dict[str, int] = defaultdict(int)
        for tensor in own:
            types[QUANTS.by_id(tensor.type).name] += 1
        rows.append(RoleRow(role, shape[::-1], dict(types), sum(t.nbytes for t in own)))
    return sorted(rows, key=lambda row: -row.bytes)


def _memory(
    config: Qwen3MoeConfig, tensors: dict[str, Tensor], kv_dtype: str, context: int, batch: int
) -> Memory:
    per_token = 2 * config.layers * config.kv_heads * config.head_dim * _CACHE_ITEM_BYTES[kv_dtype]
    read = 0
    for name, tensor in tensors.items():
        if name.endswith("_exps.weight"):
            read += tensor.nbytes // config.experts * config.experts_per_token
        elif name == "token_embd.weight" and not config.tied_embeddings:
            read += tensor.nbytes // config.vocabulary  # one row
        else:
            read += tensor.nbytes
    return Memory(
        context=context,
        batch=batch,
        weights=sum(tensor.nbytes for tensor in tensors.values()),
        kv_per_token=per_token,
        kv_caches=per_token * context * batch,
        logits=4 * config.vocabulary * batch,
        read_per_token=read,
    )


def _machine() -> dict[str, Any]:
    import onnxruntime as ort

    library = describe()
    return {
        "onnxruntime": ort.__version__,
        "providers": list(ort.get_available_providers()),
        "library": str(library_path()),
        "library_version": library["version"],
        "architecture": library["architecture"],
        "isas": library["isas"],
        "isa": library["isa"],
        "cores": os.cpu_count(),
    }


def _values(tensor: Tensor) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count
