"""ferrum-build: the command line of the builder."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferrum.commands.command_line import OneLineParser, complain, run_command, show

if TYPE_CHECKING:
    from ferrum.builder.build import BuildResult

_DESCRIPTION = """\
Turn a GGUF Qwen3-MoE model into an ONNX graph that any ONNX Runtime runs.

The quantized weights are neither decoded nor copied: the graph refers to the
blocks inside the GGUF file. The .onnx itself is a few hundred kilobytes.
Beside it are written tokenizer.json, tokenizer_config.json, the chat template,
ferrum.json (what ferrum's runtime needs) and genai_config.json (for
onnxruntime-genai). All appear together, or none does."""

_EPILOG = """\
where the weights lie (--weights):
  ONNX Runtime maps weights only from the .onnx's own folder.
  reference  the GGUF lies in that folder already; refer to it
  link       make a hard link beside the output (same file system, no space)
  copy       copy the file beside the output (or share its extents, where the
             file system can)
  auto       the first of these that works: reference, link, copy

in which order their bytes lie (--layout):
  file       as in the GGUF, to which the graph refers
  cuda       matrices whose blocks a GPU cannot load in vectors (Q6_K, Q8_0, MXFP4)
             are written once more, re-laid, to OUT.planes; the rest stays

activations (--dtype):
  f32        float32, as a CPU computes
  f16        float16 between the ops: less memory to move on a GPU. Each op sums
             in float32; the router, the final norm and the head stay float32.
             What a model lets grow beyond 65,504 becomes infinite
  bf16       bfloat16: as f16, with float32's range and 8 bits of precision
  A CPU runs such a graph too, and no faster than f32's.

examples:
  ferrum-build Qwen3-30B-A3B-Q4_K_M.gguf qwen3/model.onnx
  ferrum-build model-00001-of-00003.gguf out/model.onnx --max-context 16384
  ferrum-build model.gguf out/model.onnx --cpu-experts 20 # for a GPU with little memory
  ferrum-build model.gguf out/model.onnx --layout cuda    # for a GPU, more disk
  ferrum-build model.gguf out/model.onnx --dtype f16      # for a GPU
  ferrum-build model.gguf out/model.onnx --copy-library   # for onnxruntime-genai

exit status: 0 done, 2 bad input or arguments (one line says what), 130 stopped"""


_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def parser() -> argparse.ArgumentParser:
    """The arguments of ferrum-build."""
    result = OneLineParser(
        prog="ferrum-build",
        usage="ferrum-build MODEL.gguf OUT.onnx [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    result.add_argument("model", metavar="MODEL.gguf", type=Path,
                        help="the model; of a split model, any shard")  # fmt: skip
    result.add_argument("output", metavar="OUT.onnx", type=Path, help="the graph to write")
    result.add_argument("--weights", choices=("auto", "reference", "link", "copy"), default="auto",
                        help="how the weights come beside the output (default: auto)")  # fmt: skip
    result.add_argument("--layout", choices=("file", "cuda"), default="file",
                        help="the order of the weights' bytes; cuda is for GPUs, and slower on a "
                        "CPU (default: file)")  # fmt: skip
    result.add_argument("--kv-dtype", choices=("float32", "float16", "bfloat16"),
                        default="float16", help="element type of the KV caches "
                        "(default: float16)")  # fmt: skip
    result.add_argument("--dtype", choices=tuple(_DTYPES), default="f32",
                        help="element type of activations between ops, for a GPU "
                        "(default: f32)")  # fmt: skip
    result.add_argument("--max-context", type=int, metavar="TOKENS",
                        help="the longest sequence to allow "
                        "(default: the model's own)")  # fmt: skip
    result.add_argument("--cpu-experts", type=int, default=0, metavar="N",
                        help="keep the experts of the first N layers on the CPU where the rest "
                        "runs on a GPU that is too small for all; ferrum-inspect shows what that "
                        "saves and costs (default: 0)")  # fmt: skip
    result.add_argument("--copy-library", action="store_true",
                        help="copy ferrum's kernel library beside the output and name it in "
                        "genai_config.json: onnxruntime-genai loads it "
                        "only from there")  # fmt: skip
    result.add_argument("--force", action="store_true", help="replace outputs that exist, and "
                        "take away what only the former build had")  # fmt: skip
    result.add_argument("--json", action="store_true", help="print the result as JSON")
    result.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ferrum-build; returns the exit status."""
    return run_command("ferrum-build", lambda: _build(parser().parse_args(argv)))


def _build(arguments: argparse.Namespace) -> int:
    started = time.perf_counter()
    # Imported here so that --help and a wrong option answer at once.
    from ferrum.builder.build import BUILD_ERRORS, BuildOptions, build

    options = BuildOptions(
        weights=arguments.weights,
        layout=arguments.layout,
        kv_dtype=arguments.kv_dtype,
        dtype=_DTYPES[arguments.dtype],
        max_context=arguments.max_context,
        cpu_experts=arguments.cpu_experts,
        copy_library=arguments.copy_library,
        force=arguments.force,
        progress=not arguments.quiet,
    )
    try:
        result = build(arguments.model, arguments.output, options)
    except BUILD_ERRORS as error:
        return complain("ferrum-build", error, 2)
    if arguments.quiet and not arguments.json:
        return 0
    seconds = time.perf_counter() - started
    report = {**result.as_dict(), "seconds": round(seconds, 3)}
    text = json.dumps(report, indent=1) if arguments.json else _words(result, arguments, seconds)
    return show("ferrum-build", 0, lambda: print(text))


def _words(result: BuildResult, arguments: argparse.Namespace, seconds: float) -> str:
    config = result.config
    kinds = ", ".join(f"{name} x{row['tensors']}" for name, row in result.types.items())
    weight_bytes = sum(row["bytes"] for row in result.types.values())
    return (
        f"{result.output}: {result.graph_bytes / 1e3:.0f} kB of graph, "
        f"{weight_bytes / 1e6:,.0f} MB of weights by {', '.join(sorted(set(result.methods)))}\n"
        f"  {config.layers} layers, {config.experts} experts, {config.experts_per_token} per "
        f"token, context {config.context_length:,}; {kinds}\n"
        f"{_activations(result.dtype)}{_on_the_cpu(result.cpu_experts)}"
        f"{_relaid(arguments.layout, result.relaid_bytes)}"
        f"  done in {seconds:.1f} s"
    )


def _relaid(layout: str, count: int) -> str:
    if layout == "file":
        return ""
    if not count:
        return f"  --layout {layout} re-lays none of these types: all weights stay as they lie\n"
    return f"  {count / 1e6:,.0f} MB of the weights re-laid beside the graph\n"


def _activations(dtype: str) -> str:
    return "" if dtype == "float32" else f"  activations in {dtype}\n"


def _on_the_cpu(layers: int) -> str:
    return f"  experts of {layers} layers stay on the CPU beside a GPU\n" if layers else ""
