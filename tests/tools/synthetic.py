"""Write Qwen3-MoE GGUFs of any dimensions and ggml types, with random weights, at disk speed.

    python tests/tools/synthetic.py OUT.gguf --preset qwen3-30b-a3b --mixture Q4_K_M

The blocks are random but valid, and scaled so that activations and logits stay finite and of
ordinary size. A tile of blocks per type and row length is drawn once and repeated from a different
block for every tensor: the tile's length shares no factor with an expert's, so no two experts are
alike.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import gguf.quants
import numpy as np
from gguf_writer import TensorInfo, header
from mixtures import FILE_TYPES, MIXTURES, tensor_type
from random_blocks import Bytes, float_blocks, random_blocks
from synthetic_tokenizer import tokenizer_metadata

from ferrum.custom_ops.quants import QUANTS

_TILE_BYTES = 8 << 20


@dataclass(frozen=True)
class SyntheticSpec:
    """A model to write. The defaults are the preset "tiny".

    `mixture`: a row of `mixtures.MIXTURES`, or one type for all matrices. `types`: type names by
    tensor name pattern, the last match wins, e.g. `{"*.ffn_gate_inp.weight": "Q8_0"}`.
    `metadata` and `shapes` replace entries (None leaves one out), for files that are meant to be
    wrong. `shards`: number of files. `real`: weights are drawn as floats and then quantized where
    the gguf package can, so that blocks have the statistics of real ones; for small models.
    `sparse`: matrices are holes in the file, all zeros, so that a model of any size takes no disk.
    """

    layers: int = 2
    hidden: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    experts: int = 8
    experts_used: int = 2
    expert_width: int = 256
    vocab: int = 512
    padding_tokens: int = 0
    context: int = 512
    rope_base: float = 1e6
    rms_epsilon: float = 1e-6
    rope_scaling: str = "none"  # or "linear", "yarn"
    rope_factor: float = 4.0
    mixture: str = "Q4_K_M"
    types: Mapping[str, str] = field(default_factory=dict)
    tied: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict)
    shards: int = 1
    alignment: int = 32
    seed: int = 0
    real: bool = False
    sparse: bool = False


PRESETS = {
    "tiny": SyntheticSpec(),
    "qwen3-30b-a3b": SyntheticSpec(
        layers=48, hidden=2048, heads=32, kv_heads=4, head_dim=128, experts=128, experts_used=8,
        expert_width=768, vocab=151936, padding_tokens=267, context=40960,
    ),
}  # fmt: skip


def write_synthetic(path: str | Path, spec: SyntheticSpec = PRESETS["tiny"]) -> list[Path]:
    """Write the model and return its files: `path`, or its shards where there are several."""
    path = Path(path)
    tensors = list(_tensors(spec))
    metadata = model_metadata(spec)
    files = []
    for number in range(spec.shards):
        share = tensors[
            number * len(tensors) // spec.shards : (number + 1) * len(tensors) // spec.shards
        ]
        head: dict[str, Any] = dict(metadata) if number == 0 else {}
        target = path
        if spec.shards > 1:
            head["split.no"] = np.uint16(number)
            head["split.count"] = np.uint16(spec.shards)
            head["split.tensors.count"] = np.int32(len(tensors))
            target = path.with_name(f"{path.stem}-{number + 1:05d}-of-{spec.shards:05d}.gguf")
        _write_file(target, head, share, spec)
        files.append(target)
    return files


def model_metadata(spec: SyntheticSpec) -> dict[str, Any]:
    """The key-values of the (first) file."""
    arch = {
        "block_count": spec.layers,
        "context_length": spec.context,
        "embedding_length": spec.hidden,
        "feed_forward_length": 2 * spec.expert_width,
        "attention.head_count": spec.heads,
        "attention.head_count_kv": spec.kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "rope.freq_base": spec.rope_base,
        "attention.layer_norm_rms_epsilon": spec.rms_epsilon,
        "expert_count": spec.experts,
        "expert_used_count": spec.experts_used,
        "expert_feed_forward_length": spec.expert_width,
    }
    if spec.rope_scaling != "none":
        arch["rope.scaling.type"] = spec.rope_scaling
        arch["rope.scaling.factor"] = spec.rope_factor
        arch["rope.scaling.original_context_length"] = int(spec.context / spec.rope_factor)
    metadata: dict[str, Any] = {
        "general.architecture": "qwen3moe",
        "general.name": f"synthetic-{spec.mixture}",
        "general.quantization_version": 2,
        **{f"qwen3moe.{key}": value for key, value in arch.items()},
        **tokenizer_metadata(spec.vocab, spec.padding_tokens),
    }
    if spec.mixture in FILE_TYPES:
        metadata["general.file_type"] = FILE_TYPES[spec.mixture]
    metadata.update(spec.metadata)
    return {key: value for key, value in metadata.items() if value is not None}


def tensor_shapes(spec: SyntheticSpec) -> dict[str, tuple[int, ...]]:
    """Name -> shape in ggml order, in the order in which llama.cpp writes them."""
    hidden, width, experts = spec.hidden, spec.expert_width, spec.experts
    q_width, kv_width = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    shapes: dict[str, tuple[int, ...] | None] = {
        "output.weight": None if spec.tied else (hidden, spec.vocab),
        "output_norm.weight": (hidden,),
        "token_embd.weight": (hidden, spec.vocab),
    }
    for layer in range(spec.layers):
        for name, shape in {
            "attn_k": (hidden, kv_width),
            "attn_k_norm": (spec.head_dim,),
            "attn_norm": (hidden,),
            "attn_output": (q_width, hidden),
            "attn_q": (hidden, q_width),
            "attn_q_norm": (spec.head_dim,),
            "attn_v": (hidden, kv_width),
            "ffn_down_exps": (width, hidden, experts),
            "ffn_gate_exps": (hidden, width, experts),
            "ffn_gate_inp": (hidden, experts),
            "ffn_norm": (hidden,),
            "ffn_up_exps": (hidden, width, experts),
        }.items():
            shapes[f"blk.{layer}.{name}.weight"] = shape
    shapes.update(spec.shapes)
    return {name: shape for name, shape in shapes.items() if shape is not None}


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def blocks(self) -> int:
        return int(np.prod(self.shape)) // QUANTS.by_name(self.type).block

    @property
    def nbytes(self) -> int:
        return self.blocks * QUANTS.by_name(self.type).bytes


def _tensors(spec: SyntheticSpec) -> Iterator[_Tensor]:
    for name, shape in tensor_shapes(spec).items():
        kind = tensor_type(spec.mixture, name, spec.layers)
        for pattern, override in spec.types.items():
            if fnmatchcase(name, pattern):
                kind = override
        try:
            QUANTS.by_name(kind).row_bytes(shape[0])
        except ValueError as error:
            raise ValueError(f"{name}: {error}; give it another type in `types`") from error
        yield _Tensor(name, shape, kind)


def _write_file(
    target: Path, metadata: Mapping[str, Any], tensors: list[_Tensor], spec: SyntheticSpec
) -> None:
    if spec.alignment != 32:
        metadata = {**metadata, "general.alignment": spec.alignment}
    infos, offset = [], 0
    for tensor in tensors:
        type_id = QUANTS.by_name(tensor.type).id
        infos.append(TensorInfo(tensor.name, tensor.shape, type_id, offset))
        offset += tensor.nbytes + -tensor.nbytes % spec.alignment
    weights = _Weights(spec)
    with target.open("wb", buffering=1 << 16) as file:
        file.write(header(metadata, infos, alignment=spec.alignment))
        for index, tensor in enumerate(tensors):
            if spec.sparse and len(tensor.shape) > 1:
                file.seek(tensor.nbytes, os.SEEK_CUR)
            else:
                weights.write(file, tensor, index)
            file.write(bytes(-tensor.nbytes % spec.alignment))
        file.truncate()


class _Weights:
    """Draws tensors; keeps one tile of random blocks per type and row length."""

    def __init__(self, spec: SyntheticSpec) -> None:
        self.spec = spec
        self.tiles: dict[tuple[str, int], Bytes] = {}

    def write(self, file: BinaryIO, tensor: _Tensor, index: int) -> None:
        columns = tensor.shape[0]
        if len(tensor.shape) == 1:
            rng = np.random.default_rng([self.spec.seed, index])
            values = 1 + 0.1 * rng.standard_normal(columns, np.float32)
            file.write(_quantized(values, tensor.type, columns))
        elif self.spec.real:
            rng = np.random.default_rng([self.spec.seed, index])
            values = rng.standard_normal(tensor.shape[::-1], np.float32) / np.float32(columns**0.5)
            file.write(_quantized(values.reshape(-1), tensor.type, columns, index))
        else:
            self.write_tiled(file, tensor, index)

    def write_tiled(self, file: BinaryIO, tensor: _Tensor, index: int) -> None:
        tile = self.tile(tensor.type, tensor.shape[0], tensor.blocks)
        start = np.random.default_rng([self.spec.seed, index]).integers(len(tile))
        left = tensor.blocks
        while left:
            count = min(left, len(tile) - start)
            file.write(tile[start : start + count].data)
            left -= count
            start = 0

    def tile(self, kind: str, columns: int, needed: int) -> Bytes:
        most = (_TILE_BYTES // QUANTS.by_name(kind).bytes) | 1
        tile = self.tiles.get((kind, columns))
        if tile is None or len(tile) < min(needed, most):
            deviation = columns**-0.5
            tile = random_blocks(kind, min(needed | 1, most), deviation, self.spec.seed)
            self.tiles[kind, columns] = tile
        return tile


def _quantized(
    values: np.ndarray[Any, np.dtype[np.float32]], kind: str, columns: int, seed: int = 0
) -> bytes:
    """Values as blocks of `kind`; random blocks of like size where gguf cannot quantize to it."""
    if QUANTS.by_name(kind).is_float:
        return float_blocks(kind, values).tobytes()
    try:
        blocks = gguf.quants.quantize(values.reshape(-1, columns), gguf.GGMLQuantizationType[kind])
    except NotImplementedError:
        count = values.size // QUANTS.by_name(kind).block
        blocks = random_blocks(kind, count, columns**-0.5, seed)
    return bytes(blocks.tobytes())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the GGUF to write")
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument(
        "--mixture", help=f"one of {', '.join(MIXTURES)}, or a ggml type for all matrices"
    )
    parser.add_argument(
        "--type", action="append", default=[], metavar="PATTERN=TYPE",
        help="the type of tensors whose name matches, e.g. '*.ffn_gate_inp.weight=Q8_0'",
    )  # fmt: skip
    for entry in fields(SyntheticSpec):
        flag = "--" + entry.name.replace("_", "-")
        if entry.type == "bool":
            parser.add_argument(flag, action="store_const", const=True)
        elif entry.type in ("int", "float"):
            parser.add_argument(flag, type=int if entry.type == "int" else float)
    parser.add_argument("--rope-scaling", choices=["none", "linear", "yarn"])
    options = vars(parser.parse_args(arguments))
    out, preset, types = options.pop("out"), options.pop("preset"), options.pop("type")
    given = {name: value for name, value in options.items() if value is not None}
    given["types"] = dict(item.split("=", 1) for item in types)
    for path in write_synthetic(out, replace(PRESETS[preset], **given)):
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
