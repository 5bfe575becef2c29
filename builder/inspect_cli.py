"""ferrum-inspect: the command line of the survey."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ferrum.commands.command_line import OneLineParser, complain, run_command, show

_DESCRIPTION = """\
Show what is in a model: config, types with sizes, memory at run time, where it
will run and which kernels this machine will use. Weights are not read."""

_EPILOG = """\
exit status: 0 done, 2 bad input or arguments (one line says what), 130 stopped

examples:
  ferrum-inspect Qwen3-30B-A3B-Q4_K_M.gguf --context 8192 --batch 16
  ferrum-inspect out/model.onnx --svg layer.svg --layer 5"""


def parser() -> argparse.ArgumentParser:
    """The arguments of ferrum-inspect."""
    result = OneLineParser(
        prog="ferrum-inspect",
        usage="ferrum-inspect OUT.onnx|MODEL.gguf [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
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
    return run_command("ferrum-inspect", lambda: _inspect(parser().parse_args(argv)))


def _inspect(arguments: argparse.Namespace) -> int:
    # Imported here so that --help and a wrong option answer at once.
    from ferrum.builder.check.export import ExportError
    from ferrum.builder.check.placement import LibraryError
    from ferrum.builder.gguf import GGUFError
    from ferrum.builder.layer_svg import layer_svg
    from ferrum.builder.survey import survey
    from ferrum.builder.survey_page import print_survey
    from ferrum.commands.report_file import ReportError, check_reports, write_report
    from ferrum.models.qwen3_moe.config import ModelError

    if arguments.batch < 1 or (arguments.context is not None and arguments.context < 1):
        parser().error("--context and --batch -> 1 or more")
    try:
        found = survey(arguments.model, context=arguments.context, batch=arguments.batch)
        if not 0 <= arguments.layer < found.config.layers:
            parser().error(f"--layer {arguments.layer} -> 0 to {found.config.layers - 1}")
        if arguments.svg:
            check_reports([arguments.svg], found.inputs)
            write_report(arguments.svg, layer_svg(found, arguments.layer).encode())
    except (GGUFError, ModelError, ExportError, LibraryError, ReportError, OSError) as error:
        return complain("ferrum-inspect", error, 2)
    if arguments.json:
        text = json.dumps(found.as_dict(), indent=1)
        return show("ferrum-inspect", 0, lambda: print(text))
    return show("ferrum-inspect", 0, lambda: print_survey(found))
