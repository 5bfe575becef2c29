"""ferrum-inspect: the command line of the survey."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

_DESCRIPTION = """\
Show what is in a model: config, types with sizes, memory at run time, where it
will run and which kernels this machine will use. Weights are not read."""

_EPILOG = """\
exit status: 0 done, 2 bad input or arguments (one line says what)

examples:
  ferrum-inspect Qwen3-30B-A3B-Q4_K_M.gguf --context 8192 --batch 16
  ferrum-inspect out/model.onnx --svg layer.svg --layer 5"""


def parser() -> argparse.ArgumentParser:
    """The arguments of ferrum-inspect."""
    result = argparse.ArgumentParser(
        prog="ferrum-inspect",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("model", metavar="OUT.onnx|MODEL.gguf", type=Path,
                        help="what ferrum-build wrote, or what it reads")  # fmt: skip
    result.add_argument("--context", type=int, metavar="TOKENS",
                        help="length of a sequence, for the memory "
                        "(default: the model's longest)")  # fmt: skip
    result.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="sequences at once, for the memory (default: 1)",
    )
    result.add_argument("--json", action="store_true", help="print it as JSON")
    result.add_argument(
        "--svg", type=Path, metavar="FILE", help="draw one layer's dataflow with shapes"
    )
    result.add_argument(
        "--layer", type=int, default=0, metavar="N", help="the layer to draw (default: 0)"
    )
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ferrum-inspect; returns the exit status."""
    arguments = parser().parse_args(argv)
    # Imported here so that --help and a wrong option answer at once.
    from ferrum.builder.check.export import ExportError
    from ferrum.builder.gguf import GGUFError
    from ferrum.builder.layer_svg import layer_svg
    from ferrum.builder.survey import survey
    from ferrum.builder.survey_page import print_survey
    from ferrum.models.qwen3_moe.config import ModelError

    if arguments.batch < 1 or (arguments.context is not None and arguments.context < 1):
        parser().error("--context and --batch -> 1 or more")
    try:
        found = survey(arguments.model, context=arguments.context, batch=arguments.batch)
        if not 0 <= arguments.layer < found.config.layers:
            parser().error(f"--layer {arguments.layer} -> 0 to {found.config.layers - 1}")
        if arguments.svg:
            arguments.svg.write_text(layer_svg(found, arguments.layer), encoding="utf-8")
    except (GGUFError, ModelError, ExportError, OSError) as error:
        print(f"ferrum-inspect: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print_survey(found)
    return 0
