"""ferrum-check: the command line of the checks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

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
    result = argparse.ArgumentParser(
        prog="ferrum-check",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    arguments = parser().parse_args(argv)
    if arguments.seed < 0 or arguments.samples < 1:
        parser().error("--seed -> 0 or more, --samples -> 1 or more")
    # Imported here so that --help and a wrong option answer at once.
    from ferrum.builder.check.export import Export, ExportError
    from ferrum.builder.check.report import failed, print_table, write_json, write_junit
    from ferrum.builder.check.run import CheckOptions, checks, run_checks
    from ferrum.builder.gguf import GGUF, GGUFError

    options = CheckOptions(arguments.seed, arguments.samples, arguments.quick,
                           only=tuple(arguments.only))  # fmt: skip
    try:
        checks(options)
    except ValueError as error:
        parser().error(str(error))
    try:
        source = GGUF.open(arguments.gguf) if arguments.gguf else None
        export = Export(arguments.model, source)
        outcomes = list(run_checks(export, options))
        print_table(outcomes, f"{arguments.model}, seed {arguments.seed}")
        about = {
            "model": str(arguments.model),
            "gguf": str(arguments.gguf) if arguments.gguf else None,
            "seed": arguments.seed,
        }
        if arguments.json:
            write_json(arguments.json, outcomes, about)
        if arguments.junit:
            write_junit(arguments.junit, outcomes, arguments.model.name)
    except (GGUFError, ExportError, OSError) as error:
        print(f"ferrum-check: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ferrum-check: stopped", file=sys.stderr)
        return 130
    return 1 if failed(outcomes) else 0
