"""ferrum-check: the command line of the checks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferrum.commands.command_line import OneLineParser, complain, run_command, show

if TYPE_CHECKING:
    from ferrum.builder.check.run import Outcome

_DESCRIPTION = """\
Prove that an export is sound, and that it is what the GGUF was.

A table of named checks: onnx's checker and shape inference, versions, where the
weights lie, the graph against its config, kernels against the reference bodies on
weights drawn from the model, and a short prompt through the whole of it. With
--gguf also every tensor's bytes. A 17 GiB model needs less than 2 GB of memory."""

_EPILOG = """\
exit status: 0 all pass, 1 a check failed, 2 bad input (one line says what), 130 stopped

examples:
  ferrum-check out/model.onnx
  ferrum-check out/model.onnx --gguf Qwen3-30B-A3B-Q4_K_M.gguf --junit check.xml"""


def parser() -> argparse.ArgumentParser:
    """The arguments of ferrum-check."""
    result = OneLineParser(
        prog="ferrum-check",
        usage="ferrum-check OUT.onnx [--gguf MODEL.gguf] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    result.add_argument("model", metavar="OUT.onnx", type=Path, help="what ferrum-build wrote")
    result.add_argument("--gguf", metavar="MODEL.gguf", type=Path,
                        help="the model it was made of (any shard): compare "
                        "every tensor's bytes")  # fmt: skip
    result.add_argument("--quick", action="store_true",
                        help="do not hash weights that are one file on disk "
                        "with --gguf's (a hard link)")  # fmt: skip
    result.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="what experts, rows and tokens are drawn with (default: 0)",
    )
    result.add_argument("--samples", type=int, default=4, metavar="N",
                        help="nodes of each op whose kernel is compared with its reference body; "
                        "more where there are more mixes of types (default: 4)")  # fmt: skip
    result.add_argument("--only", action="append", default=[], metavar="CHECK",
                        help="run this check alone (may be given again)")  # fmt: skip
    result.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes as JSON")
    result.add_argument("--junit", type=Path, metavar="FILE", help="write them as JUnit XML")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ferrum-check; returns the exit status."""
    return run_command("ferrum-check", lambda: _check(parser().parse_args(argv)))


def _check(arguments: argparse.Namespace) -> int:
    if arguments.seed < 0 or arguments.samples < 1:
        parser().error("--seed -> 0 or more, --samples -> 1 or more")
    # Imported here so that --help and a wrong option answer at once.
    from ferrum.builder.check.export import Export, ExportError
    from ferrum.builder.check.placement import LibraryError, check_library
    from ferrum.builder.check.report import failed, print_table
    from ferrum.builder.check.run import CheckOptions, checks, run_checks
    from ferrum.builder.gguf import GGUF, GGUFError
    from ferrum.commands.report_file import ReportError, check_reports

    options = CheckOptions(arguments.seed, arguments.samples, arguments.quick,
                           only=tuple(arguments.only))  # fmt: skip
    try:
        checks(options)
    except ValueError as error:
        parser().error(str(error))
    try:
        check_library()
        source = GGUF.open(arguments.gguf) if arguments.gguf else None
        export = Export(arguments.model, source)
        sources = [file.path for file in source.files] if source else []
        reports = [path for path in (arguments.json, arguments.junit) if path]
        check_reports(reports, [*export.files, *sources])
        outcomes = list(run_checks(export, options))
        title = f"{arguments.model}, seed {arguments.seed}"
        status = 1 if failed(outcomes) else 0
        status = show("ferrum-check", status, lambda: print_table(outcomes, title))
        _write_reports(arguments, outcomes)
    except (GGUFError, ExportError, LibraryError, ReportError, OSError) as error:
        return complain("ferrum-check", error, 2)
    return status


def _write_reports(arguments: argparse.Namespace, outcomes: Sequence[Outcome]) -> None:
    from ferrum.builder.check.report import write_json, write_junit

    about = {
        "model": str(arguments.model),
        "gguf": str(arguments.gguf) if arguments.gguf else None,
        "seed": arguments.seed,
    }
    if arguments.json:
        write_json(arguments.json, outcomes, about)
    if arguments.junit:
        write_junit(arguments.junit, outcomes, arguments.model.name)
