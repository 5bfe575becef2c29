"""Where the weights lie: every reference inside its file, and the files those of the build."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ferrum.builder.build import model_config
from ferrum.builder.check.export import Export, Reference
from ferrum.builder.check.finding import Finding, judged
from ferrum.builder.gguf import SourceFile
from ferrum.builder.gguf_header import GGUFError, read_header
from ferrum.models.qwen3_moe.config import ModelError


def external_references(export: Export) -> Finding:
    """Each lies inside an existing file of the .onnx's folder, as long as its shape says."""
    problems: list[str] = []
    by_file: dict[str, list[Reference]] = defaultdict(list)
    for reference in export.references.values():
        by_file[reference.location].append(reference)
        items = math.prod(reference.dims) * _item_bytes(reference.dtype)
        if reference.length != items:
            problems.append(
                f"{reference.name}: {reference.length} bytes -> {items}, as its shape "
                f"{list(reference.dims)} takes"
            )
    for location, references in by_file.items():
        problems += _in_file(export, location, references)
    total = sum(reference.length for reference in export.references.values())
    return judged(
        problems,
        f"{len(export.references)} tensors, {total:,} bytes in {len(by_file)} "
        f"file{'s' if len(by_file) != 1 else ''}; all inside, none overlap",
    )


def _in_file(export: Export, location: str, references: list[Reference]) -> list[str]:
    path = export.folder / location
    if path.name != location or location in ("", ".", ".."):
        return [f"{references[0].name}: {location!r} -> a file of the .onnx's own folder"]
    if not path.is_file():
        return [f"{location}: missing; {len(references)} tensors lie in it"]
    size, problems = path.stat().st_size, []
    ordered = sorted(references, key=lambda reference: (reference.offset, reference.end))
    for reference in ordered:
        if reference.offset < 0 or reference.length < 0 or reference.end > size:
            problems.append(
                f"{reference.name}: bytes {reference.offset} to {reference.end} -> inside "
                f"{location} of {size}"
            )
    for first, second in pairwise(ordered):
        if second.offset < first.end:
            problems.append(f"{second.name} overlaps {first.name} in {location}")
    return problems


def _item_bytes(dtype: int) -> int:
    return int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(dtype)).itemsize)


def source_files(export: Export) -> Finding:
    """The files beside the .onnx have the sizes and headers that the build recorded."""
    problems = []
    for record in export.records:
        path = export.folder / record["file"]
        try:
            found = _relaid_file(path, record) if "layout" in record else _gguf_file(path)
        except (GGUFError, OSError) as error:
            problems.append(str(error))
            continue
        problems += [
            f"{record['file']}: {key} {_short(got)} -> {_short(record[key])}: not the file that "
            "the graph was built from"
            for key, got in (("bytes", found.size), ("header_bytes", found.header_bytes),
                             ("header_sha256", found.sha256))
            if got != record[key]
        ]  # fmt: skip
    recorded = {record["file"] for record in export.records}
    problems += [
        f"{location}: referred to, but not among the sources {sorted(recorded)}"
        for location in sorted({r.location for r in export.references.values()} - recorded)
    ]
    names = ", ".join(record["file"] for record in export.records)
    return judged(problems, f"{names}: size and header as recorded at build")


def _gguf_file(path: Path) -> SourceFile:
    header = read_header(path)
    return SourceFile(path, header.size, header.header_bytes, header.sha256)


def _relaid_file(path: Path, record: dict[str, Any]) -> SourceFile:
    length = record["header_bytes"]
    with path.open("rb") as file:
        header = file.read(max(length, 0))
    return SourceFile(path, path.stat().st_size, length, hashlib.sha256(header).hexdigest())


def tensor_table(export: Export) -> Finding:
    """Every reference is the tensor of its name in the file's own table."""
    stored, problems = export.tensors, []
    for reference in export.references.values():
        tensor = stored.get(reference.name)
        if tensor is None:
            problems.append(f"{reference.name}: not a tensor of {reference.location}")
            continue
        found = (reference.location, reference.offset, reference.length)
        wanted = (tensor.path.name, tensor.offset, tensor.nbytes)
        if found != wanted:
            owner = [t.name for t in stored.values()
                     if (t.path.name, t.offset) == found[:2]]  # fmt: skip
            where = f", which is {owner[0]}" if owner else ""
            problems.append(f"{reference.name}: {_place(found)}{where} -> {_place(wanted)}")
    unused = set(stored) - set(export.initializers)
    problems += [f"{name}: in the file, but not in the graph" for name in sorted(unused)]
    return judged(problems, f"{len(export.references)} names, offsets and lengths as in the file")


def config(export: Export) -> Finding:
    """The config in the graph is what the file's metadata say."""
    problems = []
    sources = [("the weights' own file", export.beside)]
    if export.source is not None:
        sources.append(("--gguf", export.source))
    for label, gguf in sources:
        try:
            wanted = model_config(gguf, None)
        except (GGUFError, ModelError) as error:
            problems.append(str(error))
            continue
        if export.config.context_length <= wanted.context_length:  # --max-context makes it shorter
            wanted = replace(wanted, context_length=export.config.context_length)
        ours, theirs = export.config.as_dict(), wanted.as_dict()
        problems += [
            f"{key} {ours[key]!r} -> {theirs[key]!r}, as {label} says"
            for key in ours
            if ours[key] != theirs[key]
        ]
    c = export.config
    return judged(
        problems,
        f"{c.layers} layers, {c.experts} experts, {c.experts_per_token} per token, rope base "
        f"{c.rope_base:,.10g}: as the GGUF's metadata",
    )


def _place(place: tuple[str, int, int]) -> str:
    return f"{place[0]} at {place[1]} ({place[2]} bytes)"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 20 else text[:12] + "..."
