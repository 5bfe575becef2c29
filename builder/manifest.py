"""ferrum.json: what a runtime must know besides the graph, and where the weights came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ferrum.builder import genai
from ferrum.builder.gguf import SourceFile, Tensor
from ferrum.builder.tokenizer import CHAT_TEMPLATE, Tokenizer
from ferrum.builder.weights import Placement
from ferrum.custom_ops.library import LIBRARY_NAME
from ferrum.custom_ops.quants import QUANTS
from ferrum.models.qwen3_moe.config import Qwen3MoeConfig

FORMAT = 1
FILE = "ferrum.json"
# What lies beside every graph, its template and library where it has them.
COMPANIONS = (
    FILE, "tokenizer.json", "tokenizer_config.json", CHAT_TEMPLATE, genai.FILE, LIBRARY_NAME
)  # fmt: skip


def source_records(files: Sequence[SourceFile], plan: Sequence[Placement]) -> list[dict[str, Any]]:
    """What tells a source file from one that replaced it: its name, size and header's hash."""
    return [_record(placement.name, file) for file, placement in zip(files, plan, strict=True)]


def relaid_record(file: SourceFile, layout: str) -> dict[str, Any]:
    """The same of the file of re-laid weights."""
    return {**_record(file.path.name, file), "layout": layout}


def _record(name: str, file: SourceFile) -> dict[str, Any]:
    return {
        "file": name,
        "bytes": file.size,
        "header_bytes": file.header_bytes,
        "header_sha256": file.sha256,
    }


def type_totals(tensors: Iterable[Tensor]) -> dict[str, dict[str, int]]:
    """Per ggml type, how many tensors have it and how many bytes they take; largest first."""
    totals: dict[str, dict[str, int]] = {}
    for tensor in tensors:
        row = totals.setdefault(QUANTS.by_id(tensor.type).name, {"tensors": 0, "bytes": 0})
        row["tensors"] += 1
        row["bytes"] += tensor.nbytes
    return dict(sorted(totals.items(), key=lambda item: -item[1]["bytes"]))


def manifest(
    version: str,
    config: Qwen3MoeConfig,
    graph_file: str,
    kv_dtype: str,
    activation_dtype: str,
    cpu_experts: int,
    sources: list[dict[str, Any]],
    tokenizer: Tokenizer,
    tensors: Iterable[Tensor],
) -> str:
    """The text of ferrum.json."""
    content = {
        "format": FORMAT,
        "ferrum": version,
        "model": config.as_dict(),
        "graph": {
            "file": graph_file,
            "kv_dtype": kv_dtype,
            "activation_dtype": activation_dtype,
            "cpu_experts": cpu_experts,
        },
        "source": {"files": sources},
        "tokenizer": tokenizer_entry(tokenizer),
        "types": type_totals(tensors),
    }
    return json.dumps(content, indent=1) + "\n"


def tokenizer_entry(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer's files, and the ids that they do not tell."""
    return {
        "file": "tokenizer.json",
        "chat_template": CHAT_TEMPLATE if tokenizer.chat_template else None,
        "bos": tokenizer.bos,
        "eos": list(tokenizer.eos),
        "pad": tokenizer.pad,
        "add_bos": tokenizer.add_bos,
    }


def made_files(folder: Path, graph_file: str) -> set[str]:
    """What ferrum-build made in `folder` for the export of that graph, and not every build makes.

    Nothing where there is no such export, or its ferrum.json cannot be read.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((folder / FILE).read_bytes())
        if content["graph"]["file"] == graph_file:
            relaid = {file["file"] for file in content["source"]["files"] if "layout" in file}
            return {*relaid, content["tokenizer"]["chat_template"]} - {None}
    return set()
