"""A survey as text for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from ferrum.builder.survey import Survey
from ferrum.builder.transfers import Crossing, Transfers

_UNITS = ("B", "kB", "MB", "GB", "TB")


def print_survey(survey: Survey, stream: TextIO | None = None) -> None:
    """Headings, facts and tables; bold headings on a terminal, plain text elsewhere."""
    stream = stream or sys.stdout
    bold, plain = ("\x1b[1m", "\x1b[0m") if stream.isatty() else ("", "")
    for heading, lines in _sections(survey):
        print(f"{bold}{heading}{plain}", file=stream)
        for line in lines:
            print(f"  {line}", file=stream)


def _sections(survey: Survey) -> Iterator[tuple[str, list[str]]]:
    c, memory, machine = survey.config, survey.memory, survey.machine
    files = ", ".join(f"{f['file']} ({size(f['bytes'])})" for f in survey.files)
    name = f"{c.name}: " if c.name else ""
    about = [f"{name}qwen3moe, {survey.parameters / 1e6:,.1f} million parameters", f"files {files}"]
    if survey.graph:
        about.append(
            f"graph {size(survey.graph['bytes'])}, {survey.graph['nodes']} nodes, "
            f"{survey.graph['functions']} functions, activations in "
            f"{survey.graph['activation_dtype']}, by ferrum {survey.graph['ferrum']}"
        )
    yield str(survey.path), about
    scaling = c.rope_scaling
    rope = f"RoPE base {c.rope_base:,.10g}"
    if scaling is not None:
        rope += f", {scaling.kind} x{scaling.factor:g} from {scaling.original_context:,}"
    yield (
        "config",
        [
            f"{c.layers} layers, hidden {c.hidden:,}, context {c.context_length:,}, vocabulary "
            f"{c.vocabulary:,}{' (head tied to the embedding)' if c.tied_embeddings else ''}",
            f"{c.heads} query heads and {c.kv_heads} key/value heads of {c.head_dim}, {rope}",
            f"{c.experts} experts of width {c.expert_width}, {c.experts_per_token} per token, "
            f"weights {'normalized' if c.normalize_expert_weights else 'not normalized'}",
        ],
    )
    yield (
        "types",
        table(
            ("type", "tensors", "size", "bits", "multiplied in", "kernel"),
            [
                (
                    r.name,
                    str(r.tensors),
                    size(r.bytes),
                    f"{r.bits_per_weight:g}",
                    r.multiplied,
                    r.kernel,
                )
                for r in survey.types
            ],
        ),
    )
    yield (
        "tensors",
        table(
            ("tensor", "shape", "types", "size"),
            [
                (
                    r.name,
                    " x ".join(f"{n}" for n in r.shape),
                    ", ".join(f"{kind} x{count}" for kind, count in r.types.items()),
                    size(r.bytes),
                )
                for r in survey.roles
            ],
        ),
    )
    yield (
        f"memory for {memory.batch} x {memory.context:,} tokens",
        [
            f"{size(memory.weights):>9}  weights, mapped from the file: shared, never copied",
            f"{size(memory.kv_caches):>9}  KV caches in {survey.kv_dtype} "
            f"({size(memory.kv_per_token)} a token)",
            f"{size(memory.logits):>9}  logits",
            f"{size(memory.read_per_token):>9}  of weights are read to decode a token",
        ],
    )
    if survey.transfers:
        yield "beside a GPU", _beside_a_gpu(survey.transfers)
    where = [
        f"onnxruntime {machine['onnxruntime']}, providers {', '.join(machine['providers'])}",
        f"kernels {machine['library']} {machine['library_version']}, {machine['architecture']}: "
        f"{machine['isa']} of {', '.join(machine['isas'])}, {machine['cores']} cores",
    ]
    if survey.graph:
        placed = ", ".join(f"{n} on {p}" for p, n in survey.graph["nodes_on"].items())
        where.insert(0, f"nodes: {placed}")
    yield "where it runs", where


def _beside_a_gpu(transfers: Transfers) -> list[str]:
    """What the CPU keeps, and what a step copies for it."""

    def copied(crossing: Crossing) -> tuple[str, str]:
        return str(len(crossing.values)), size(crossing.bytes_per_token)

    rows = [
        (name, size(weight_bytes), *copied(down), *copied(up))
        for name, weight_bytes, down, up in (
            *((node.name, node.weight_bytes, node.down, node.up) for node in transfers.nodes),
            ("in all", transfers.host_bytes, transfers.down, transfers.up),
        )
    ]
    down, up = transfers.down, transfers.up
    return [
        f"{size(transfers.host_bytes):>9}  of weights stay with the CPU, mapped from the file; "
        "steps run uncaptured",
        f"{size(transfers.gpu_bytes):>9}  of weights in the GPU's memory",
        f"a step copies {len(down.values)} tensors from the GPU and {len(up.values)} to it: "
        f"{size(down.bytes_per_token)} and {size(up.bytes_per_token)} for each of its tokens",
        *table(("on the CPU", "weights", "from GPU", "a token", "to GPU", "a token"), rows),
    ]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns two spaces apart, heads first."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *rows)
    ]


def size(count: int) -> str:
    """Bytes in decimal units, three figures."""
    value, unit = float(count), 0
    while value >= 999.5 and unit + 1 < len(_UNITS):
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}" if unit else f"{count} B"
