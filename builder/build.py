"""A GGUF to a folder that runs: graph, tokenizer, manifest, genai's config, weights in place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

import ferrum
from ferrum.builder import genai, manifest
from ferrum.builder.gguf import GGUF, GGUFError, Tensor
from ferrum.builder.gguf_header import quoted
from ferrum.builder.layout import Layout, plan_layout, relaid_path, write_relaid
from ferrum.builder.outputs import OutputError, publish
from ferrum.builder.tokenizer import CHAT_TEMPLATE, read_tokenizer
from ferrum.builder.weights import (
    Method,
    Mode,
    WeightsError,
    place_weights,
    plan_weights,
)
from ferrum.custom_ops.quants import QUANTS
from ferrum.models.qwen3_moe.config import ModelError, Qwen3MoeConfig, read_config
from ferrum.models.qwen3_moe.graph import Qwen3MoeGraph
from ferrum.models.qwen3_moe.names import EMBEDDING, HEAD, check_tensors

# What bad input raises; each says in one line what, where, expected and got.
BUILD_ERRORS = (GGUFError, ModelError, WeightsError, OutputError, OSError)


@dataclass(frozen=True)
class BuildOptions:
    """What a build can be told; the command line has the same names."""

    weights: Mode = "auto"
    layout: Layout = "file"
    kv_dtype: str = "float16"
    dtype: str = "float32"  # of activations: float32, float16 or bfloat16
    max_context: int | None = None
    cpu_experts: int = 0  # layers, from the first
    copy_library: bool = False
    force: bool = False
    progress: bool = True


@dataclass(frozen=True)
class BuildResult:
    """What a build wrote. `methods` says how each source file came beside the .onnx."""

    output: Path
    config: Qwen3MoeConfig
    dtype: str
    cpu_experts: int
    graph_bytes: int
    sources: tuple[Path, ...]
    methods: tuple[Method, ...]
    types: Mapping[str, Mapping[str, int]]
    relaid_bytes: int  # in a file of their own
    files: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        weights = zip(self.sources, self.methods, strict=True)
        return {
            "output": str(self.output),
            "graph_bytes": self.graph_bytes,
            "weights": [{"source": str(path), "method": method} for path, method in weights],
            "model": self.config.as_dict(),
            "dtype": self.dtype,
            "cpu_experts": self.cpu_experts,
            "types": dict(self.types),
            "relaid_bytes": self.relaid_bytes,
            "files": list(self.files),
        }


def build(source: Path, output: Path, options: BuildOptions | None = None) -> BuildResult:
    """Write `output` (an .onnx) and what belongs beside it from the GGUF at `source`.

    All outputs appear together or not at all. Raises GGUFError, ModelError, WeightsError or
    OutputError (all ValueError, one line) before anything is visible in the output's folder.
    """
    options = options or BuildOptions()
    if output.suffix != ".onnx":
        raise OutputError(f"[{output}] the output's name -> one that ends in .onnx")
    gguf = GGUF.open(source)
    config = model_config(gguf, options.max_context)
    if not 0 <= options.cpu_experts <= config.layers:
        raise ModelError(
            f"[{source.name}] --cpu-experts {options.cpu_experts} -> 0 to the model's "
            f"{config.layers} layers"
        )
    tokenizer = read_tokenizer(gguf)
    if tokenizer.vocab_size > config.vocabulary:
        raise ModelError(
            f"[{source.name}] {tokenizer.vocab_size} tokens -> at most the {config.vocabulary} "
            f"rows of {EMBEDDING}"
        )
    plan = plan_weights([file.path for file in gguf.files], output.parent, options.weights)
    library = _library() if options.copy_library else None
    relaid = plan_layout(gguf, output, options.layout, options.cpu_experts)
    tensors = {**gguf.tensors, **(relaid.tensors if relaid else {})}
    texts = {
        **tokenizer.files(),
        genai.FILE: genai.genai_config(
            config, output.name, options.kv_dtype, tokenizer, library.name if library else None
        ),
    }
    names = [placement.name for placement in plan if not placement.in_place]
    names += [relaid.path.name] if relaid else []
    names += [*texts, manifest.FILE, *([library.name] if library else []), output.name]
    _check_file_names([*names, *(placement.name for placement in plan)])
    with publish(
        output.parent,
        names,
        obsolete=_obsolete(output, names),
        inputs=[file.path for file in gguf.files],
        force=options.force,
    ) as staging:
        methods = place_weights(
            plan, staging, options.weights,
            progress=options.progress, more_bytes=relaid.size if relaid else 0,
        )  # fmt: skip
        records = manifest.source_records(gguf.files, plan)
        if relaid:
            target = staging / relaid.path.name
            written = write_relaid(relaid, target, progress=options.progress)
            records.append(manifest.relaid_record(written, options.layout))
        texts[manifest.FILE] = manifest.manifest(
            ferrum.__version__,
            config,
            output.name,
            options.kv_dtype,
            options.dtype,
            options.cpu_experts,
            records,
            tokenizer,
            tensors.values(),
        )
        graph = _graph(gguf, config, tensors, records, options)
        _write_new(staging / output.name, graph)
        for name, text in texts.items():
            _write_new(staging / name, text.encode())
        if library:
            _write_new(staging / library.name, library.read_bytes())
    return BuildResult(
        output=output,
        config=config,
        dtype=options.dtype,
        cpu_experts=options.cpu_experts,
        graph_bytes=len(graph),
        sources=tuple(file.path for file in gguf.files),
        methods=tuple(methods),
        types=manifest.type_totals(tensors.values()),
        relaid_bytes=relaid.size if relaid else 0,
        files=tuple(names),
    )


def _check_file_names(names: Iterable[str]) -> None:
    """The graph and ferrum.json name each, in UTF-8 and for any system."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            sound = False
        else:
            sound = "\\" not in name
        if not sound:
            raise OutputError(f"[{quoted(name)}] a file's name -> UTF-8 without a backslash")


def _write_new(path: Path, content: bytes) -> None:
    """A staged file may be a hard link of the source: what is there is never written into."""
    with path.open("xb") as file:
        file.write(content)


def _obsolete(output: Path, names: Sequence[str]) -> list[str]:
    """What a former build of `output` made, and this one does not."""
    optional = {relaid_path(output).name, CHAT_TEMPLATE}
    return sorted(optional & manifest.made_files(output.parent, output.name) - set(names))


def model_config(gguf: GGUF, max_context: int | None) -> Qwen3MoeConfig:
    """The config of a GGUF whose tensors have been checked against it."""
    name = gguf.path.name
    try:
        embedding = gguf.tensors.get(EMBEDDING)
        rows = embedding.shape[1] if embedding is not None and len(embedding.shape) == 2 else 0
        config = read_config(gguf.metadata, rows, HEAD not in gguf.tensors)
        check_tensors(config, gguf.tensors)
    except ModelError as error:
        raise ModelError(f"[{name}] {error}") from error
    if max_context is None:
        return config
    if not 1 <= max_context <= config.context_length:
        raise ModelError(
            f"[{name}] --max-context {max_context} -> 1 to the model's {config.context_length}"
        )
    return replace(config, context_length=max_context)


def _graph(
    gguf: GGUF,
    config: Qwen3MoeConfig,
    tensors: Mapping[str, Tensor],
    records: list[dict[str, Any]],
    options: BuildOptions,
) -> bytes:
    """The .onnx; `records` name the files that hold the tensors: the GGUF's, then any other."""
    paths = [file.path for file in gguf.files]
    paths += sorted({tensor.path for tensor in tensors.values()} - set(paths))
    locations = {path: record["file"] for path, record in zip(paths, records, strict=True)}
    writer = Qwen3MoeGraph(
        config,
        tensors,
        locations,
        options.kv_dtype,
        decoded_norms(gguf),
        options.cpu_experts,
        options.dtype,
    )
    metadata = {
        "ferrum.version": ferrum.__version__,
        "ferrum.source": json.dumps(records),
        "ferrum.config": json.dumps(config.as_dict()),
        "ferrum.activation_dtype": options.dtype,
    }
    model = writer.write().model(ferrum.__version__, metadata)
    return bytes(model.SerializeToString())


def decoded_norms(gguf: GGUF) -> dict[str, npt.NDArray[np.float32]]:
    """The vectors that are not stored as F32: a norm's weight must be, and is small."""
    return {
        name: _decoded(tensor)
        for name, tensor in gguf.tensors.items()
        if len(tensor.shape) == 1 and QUANTS.by_id(tensor.type).name != "F32"
    }


def _decoded(tensor: Tensor) -> npt.NDArray[np.float32]:
    values = dequantize(tensor.read(), GGMLQuantizationType(tensor.type))
    return np.asarray(values, np.float32).reshape(tensor.shape)


def _library() -> Path:
    # Imported here: a build without --copy-library needs neither ONNX Runtime nor the library.
    from ferrum.custom_ops.library import library_path

    return library_path()
