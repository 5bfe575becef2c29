"""Weights in another layout than the GGUF's: which they are, and the file that holds them.

For CUDA, matrices of a type that has a layout in planes (custom_ops/quants.py) are re-laid, for
blocks of an odd size cannot be loaded in vectors. Everything else stays in the GGUF.

The file lies beside the .onnx. It is a line of JSON, filled up with spaces, and the tensors in that
line's order, each from a multiple of 4096 on. The line holds the SHA-256 of all their blocks as
they lie in the GGUF, so it tells this file from that of any other weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ferrum.builder.gguf import GGUF, SourceFile, Tensor
from ferrum.builder.weights import WeightsError, progress_bar
from ferrum.custom_ops.planes import cuts, strips
from ferrum.custom_ops.quants import QUANTS, Quant
from ferrum.models.qwen3_moe.names import EMBEDDING, layer_name

Layout = Literal["file", "cuda"]
LAYOUTS: tuple[Layout, ...] = ("file", "cuda")

_ALIGNMENT = 4096
_STRIP_BYTES = 16 << 20
_EXPERTS = ("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight")

Advance = Callable[[int], None]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Relaid:
    """The file of re-laid weights, there or planned: `sources` are its tensors as they lie in the
    GGUF, `tensors` the same as they lie here, by name."""

    path: Path
    sources: dict[str, Tensor]
    tensors: dict[str, Tensor]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return max(tensor.offset + tensor.nbytes for tensor in self.tensors.values())


def relaid_path(output: Path) -> Path:
    """Where re-laid weights lie, there or not."""
    return output.with_suffix(".planes")


def plan_layout(gguf: GGUF, output: Path, layout: Layout, cpu_experts: int) -> Relaid | None:
    """The file beside `output` that a layout takes; None where nothing is re-laid.

    WeightsError where a file of the model has its name.
    """
    if layout not in LAYOUTS:
        raise WeightsError(f"[layout] {layout!r} -> one of {', '.join(LAYOUTS)}")
    if layout == "file":
        return None
    path = relaid_path(output)
    sources = {tensor.name: tensor for tensor in _chosen(gguf.tensors, cpu_experts)}
    if not sources:
        return None
    if any(file.path.name == path.name for file in gguf.files):
        raise WeightsError(f"[{path.name}] a file of the model has this name -> another output")
    tensors, at = {}, len(_header(sources, ""))
    for name, source in sources.items():
        tensors[name] = replace(source, type=_planes(source).id, path=path, offset=at)
        at = _aligned(at + source.nbytes)
    return Relaid(path, sources, tensors)


def _chosen(tensors: Mapping[str, Tensor], cpu_experts: int) -> Iterator[Tensor]:
    """Matrices that a GPU multiplies; an embedding, of which it reads single rows, is none."""
    host = {layer_name(layer, name) for layer in range(cpu_experts) for name in _EXPERTS}
    for tensor in tensors.values():
        if tensor.name != EMBEDDING and tensor.name not in host and len(tensor.shape) > 1:
            columns, rows = tensor.shape[:2]
            if QUANTS.by_id(tensor.type).in_planes(rows, columns):
                yield tensor


def _planes(source: Tensor) -> Quant:
    planes = QUANTS.by_id(source.type).planes
    assert planes is not None
    return planes


def _aligned(at: int) -> int:
    return (at + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


def _header(sources: Mapping[str, Tensor], sha256: str) -> bytes:
    content = {
        "format": 1,
        "layout": "cuda",
        "sha256": sha256.rjust(64),
        "tensors": {name: _planes(source).name for name, source in sources.items()},
    }
    line = json.dumps(content).encode()
    return line.ljust(_aligned(len(line) + 1) - 1) + b"\n"


def write_relaid(relaid: Relaid, target: Path, *, progress: bool) -> SourceFile:
    """Write the file at `target`, and say what it is. A bar on stderr, if that is a terminal."""
    total, whole = sum(t.nbytes for t in relaid.sources.values()), hashlib.sha256()
    with (
        target.open("xb", buffering=0) as file,
        progress_bar(total, "re-laying weights", shown=progress) as advance,
    ):
        try:
            file.truncate(relaid.size)
            for name, source in relaid.sources.items():
                at = relaid.tensors[name].offset
                for blocks in _write_tensor(source, file.fileno(), at):
                    whole.update(blocks.data)
                    advance(blocks.nbytes)
            header = _header(relaid.sources, whole.hexdigest())
            _write(file.fileno(), header, 0)
        except OSError as error:
            raise WeightsError(
                f"[{target.name}] the re-laid weights cannot be written: {error.strerror}"
            ) from error
    return SourceFile(relaid.path, relaid.size, len(header), hashlib.sha256(header).hexdigest())


def _write_tensor(source: Tensor, file: int, at: int) -> Iterator[Bytes]:
    """Write the tensor in planes from `at` on; its blocks, some at a time, are what is yielded."""
    quant = QUANTS.by_id(source.type)
    for matrix, first, count in _pieces(source, quant):
        start = source.offset + matrix * _matrix_bytes(source) + first * quant.bytes
        blocks = np.fromfile(source.path, np.uint8, count * quant.bytes, offset=start)
        if len(blocks) != count * quant.bytes:
            raise WeightsError(f"[{source.path.name}] ends inside {source.name}")
        fields = np.split(blocks.reshape(count, quant.bytes), cuts(quant), axis=1)
        begin = at + matrix * _matrix_bytes(source)
        places = strips(quant, _matrix_bytes(source) // quant.bytes, first, count)
        for field, (offset, _) in zip(fields, places, strict=True):
            _write(file, np.ascontiguousarray(field).data.cast("B"), begin + offset)
        yield blocks


def read_blocks(relaid: Relaid, name: str) -> Iterator[Bytes]:
    """The blocks that a re-laid tensor holds, in the GGUF's order, some at a time."""
    source, tensor = relaid.sources[name], relaid.tensors[name]
    quant = QUANTS.by_id(source.type)
    for matrix, first, count in _pieces(source, quant):
        begin = tensor.offset + matrix * _matrix_bytes(source)
        places = strips(quant, _matrix_bytes(source) // quant.bytes, first, count)
        fields = [
            np.fromfile(tensor.path, np.uint8, size, offset=begin + offset)
            for offset, size in places
        ]
        with suppress(ValueError):  # the file is shorter: so is what comes out
            yield np.concatenate([field.reshape(count, -1) for field in fields], axis=1)


def _matrix_bytes(source: Tensor) -> int:
    return source.nbytes // (source.shape[2] if len(source.shape) > 2 else 1)


def _pieces(source: Tensor, quant: Quant) -> Iterator[tuple[int, int, int]]:
    """(matrix, first block, blocks) of pieces that fit the memory."""
    blocks, most = _matrix_bytes(source) // quant.bytes, _STRIP_BYTES // quant.bytes
    for matrix in range(source.nbytes // _matrix_bytes(source)):
        for first in range(0, blocks, most):
            yield matrix, first, min(most, blocks - first)


def _write(file: int, content: bytes | memoryview, at: int) -> None:
    left = memoryview(content)
    while left:
        count = os.pwrite(file, left, at)
        left, at = left[count:], at + count
