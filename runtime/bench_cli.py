"""ferrum-bench: the command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferrum.commands.command_line import OneLineParser, complain, run_command, show
from ferrum.commands.report_file import ReportError, check_reports, write_report

_STDOUT = Path("-")

if TYPE_CHECKING:
    from ferrum.runtime.bench.report import Report

_DESCRIPTION = """\
Time an export's prefill and decode, beside what this machine gives at most and,
with --vs, beside llama.cpp on the same weights: in turn, in one run."""

_EPILOG = """\
Lists are written with commas; every combination is measured. Settings of the
runtime come from the environment (FERRUM_ISA=avx2 ferrum-bench ...).

examples:
  ferrum-bench out/model.onnx
  ferrum-bench out/model.onnx --vs MODEL.gguf --json run.json --chart run.svg
  ferrum-bench out/model.onnx --prefill "" --decode 32 --batch 1,4,16 --profile
  ferrum-bench --roofline --threads 1,2

exit status: 0 done, 1 a side failed, 2 bad input or arguments (one line says
what), 130 stopped by Ctrl-C"""


def counts(text: str) -> list[int]:
    """Numbers written with commas, each once, 1 or more; none in an empty text."""
    try:
        found = [int(item) for item in text.split(",") if item.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} -> whole numbers, such as 128,512") from None
    if any(number < 1 for number in found):
        raise argparse.ArgumentTypeError(f"{text!r} -> numbers of 1 or more")
    return list(dict.fromkeys(found))


def some_counts(text: str) -> list[int]:
    """As `counts`, with one number at least."""
    if not (found := counts(text)):
        raise argparse.ArgumentTypeError(f"{text!r} -> one number or more")
    return found


def count(text: str) -> int:
    """One number, 1 or more."""
    found = some_counts(text)
    if len(found) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} -> one number")
    return found[0]


def whole(text: str) -> int:
    """One number, 0 or more."""
    return 0 if text.strip() == "0" else count(text)


def parser() -> argparse.ArgumentParser:
    """The arguments of ferrum-bench."""
    result = OneLineParser(
        prog="ferrum-bench",
        usage="ferrum-bench OUT.onnx [--vs MODEL.gguf] [options]\n"
        "       ferrum-bench --roofline [OUT.onnx] [--threads N,N]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add = result.add_argument
    add("model", metavar="OUT.onnx", type=Path, nargs="?",
        help="the graph that ferrum-build wrote, or its folder")  # fmt: skip
    add("--prefill", metavar="N,N", type=counts, default=[128, 512],
        help='lengths of prompts; "" for none (default: 128,512)')  # fmt: skip
    add("--decode", metavar="N,N", type=counts, default=[64],
        help='steps of a decode; "" for none (default: 64)')  # fmt: skip
    add("--context", metavar="N,N", type=some_counts, default=[128],
        help="tokens in the caches before a decode (default: 128)")  # fmt: skip
    add("--batch", metavar="N,N", type=some_counts, default=[1],
        help="sequences at once (default: 1)")  # fmt: skip
    add("--device", choices=["cpu", "cuda"],
        help="where ferrum runs (default: FERRUM_DEVICE, or cpu)")  # fmt: skip
    add("--threads", metavar="N,N", type=some_counts,
        help="threads (default: one per physical core)")  # fmt: skip
    add("--repeat", metavar="N", type=count, default=3,
        help="timed repetitions of each case (default: 3)")  # fmt: skip
    add("--warm-up", metavar="N", type=count, default=1,
        help="repetitions before them (default: 1)")  # fmt: skip
    add("--retry", metavar="N", type=whole, default=1,
        help="how often at most a round is run again that other programs disturbed "
        "(default: 1)")  # fmt: skip
    add("--vs", metavar="MODEL.gguf", type=Path,
        help="measure llama.cpp on this file in turn; needs ferrum's extra [bench]")  # fmt: skip
    add("--vs-mode", choices=["both", "in-place", "repack"], default="both",
        help="the others' weights in the file, or in a second copy, which is llama.cpp's default "
        "(default: both)")  # fmt: skip
    add("--vs-library", metavar="LIB.so", type=Path, action="append", default=[],
        help="measure another engine too, by a library with the functions of "
        "ferrum.runtime.bench.peer; may be repeated")  # fmt: skip
    add("--profile", action="store_true",
        help="run each case once more and show where its time goes")  # fmt: skip
    add("--first-token", action="store_true",
        help="time fresh processes from start to first token")  # fmt: skip
    add("--roofline", action="store_true", help="measure the machine alone")
    add("--json", metavar="FILE", type=Path, nargs="?", const=_STDOUT,
        help="write all figures to a file besides the tables; without FILE, print them "
        "instead")  # fmt: skip
    add("--chart", metavar="FILE", type=Path, help="draw the speeds, as .svg or .png")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run ferrum-bench; returns the exit status."""
    given = sys.argv[1:] if argv is None else list(argv)
    return run_command("ferrum-bench", lambda: _main(parser().parse_args(given), given))


def _main(arguments: argparse.Namespace, given: Sequence[str]) -> int:
    # Imported here so that --help and a wrong option answer at once.
    from ferrum.custom_ops.measure import MeasureError
    from ferrum.runtime.artifact import ArtifactError
    from ferrum.runtime.bench.chart import check_chart, write_chart
    from ferrum.runtime.bench.errors import BenchError, SideFailed
    from ferrum.runtime.bench.page import print_report
    from ferrum.runtime.settings import SettingsError

    try:
        if arguments.json:
            _check_json(arguments.json)
        _check_reports(arguments)
        if arguments.model is None and not arguments.roofline:
            raise BenchError("OUT.onnx or --roofline is required; see ferrum-bench --help")
        if arguments.roofline:
            _check_alone(arguments)
        if arguments.chart:
            check_chart(arguments.chart)
        report = _report(arguments, shlex.join(["ferrum-bench", *given]))
        _say("")
        text = json.dumps(report.as_dict(), indent=1) + "\n"
        if arguments.json == _STDOUT:
            status = show("ferrum-bench", 0, lambda: print(text, end=""))
        else:
            status = show("ferrum-bench", 0, lambda: print_report(report))
        if arguments.json not in (None, _STDOUT):
            write_report(arguments.json, text.encode())
        if arguments.chart:
            write_chart(report, arguments.chart)
    except SideFailed as error:
        return _complain(error, 1)
    except (ArtifactError, BenchError, MeasureError, ReportError, SettingsError, OSError) as error:
        return _complain(error, 2)
    return status


def _report(arguments: argparse.Namespace, command: str) -> Report:
    from ferrum.runtime.artifact import Artifact
    from ferrum.runtime.bench.benchmark import Options, benchmark, measure_machine
    from ferrum.runtime.bench.machine import physical_cores
    from ferrum.runtime.settings import Settings

    # A wrong variable is said before anything is measured.
    asked = {} if arguments.device is None else {"device": arguments.device}
    settings = Settings.read(**asked)
    threads = arguments.threads or [settings.threads or physical_cores()]
    if arguments.roofline:
        weights = None
        if arguments.model is not None:
            artifact = Artifact.open(arguments.model)
            weights = artifact.weights[0]
        return measure_machine(threads, weights, command, _say)
    options = Options(
        prefill=arguments.prefill,
        decode=arguments.decode,
        contexts=arguments.context,
        batches=arguments.batch,
        threads=threads,
        repeat=arguments.repeat,
        warm_ups=arguments.warm_up,
        retries=arguments.retry,
        vs=arguments.vs,
        vs_modes=["in-place", "repack"] if arguments.vs_mode == "both" else [arguments.vs_mode],
        vs_libraries=arguments.vs_library,
        profile=arguments.profile,
        first_token=arguments.first_token,
        device=settings.device,
    )
    return benchmark(arguments.model, options, command, _say)


def _check_alone(arguments: argparse.Namespace) -> None:
    """The machine alone has no cases: nothing that is asked of them is passed over in silence."""
    from ferrum.runtime.bench.errors import BenchError

    defaults, both = parser().parse_args([]), ("model", "threads", "roofline", "json")
    for name, default in vars(defaults).items():
        if name not in both and getattr(arguments, name) != default:
            raise BenchError(f"--{name.replace('_', '-')} -> without --roofline")


def _check_json(path: Path) -> None:
    from ferrum.runtime.bench.errors import BenchError

    if path.suffix in (".onnx", ".gguf") or path.is_dir():  # --json OUT.onnx: the model is meant
        raise BenchError(f"[--json] {path} -> a file for the figures; OUT.onnx comes first")


def _check_reports(arguments: argparse.Namespace) -> None:
    """ReportError for a place where a report would cost the model, or cannot be written."""
    from ferrum.runtime.artifact import Artifact

    wanted = [path for path in (arguments.json, arguments.chart) if path not in (None, _STDOUT)]
    kept = [] if arguments.vs is None else [arguments.vs]
    if wanted and arguments.model is not None:
        kept += Artifact.open(arguments.model).files
    check_reports(wanted, kept)


def _say(what: str) -> None:
    """Progress, for whoever watches a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _complain(error: Exception, status: int) -> int:
    _say("")
    return complain("ferrum-bench", error, status)


if __name__ == "__main__":
    sys.exit(main())
