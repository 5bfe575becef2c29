"""ferrum-bench as a user meets it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferrum.runtime.bench_cli import main

BRIEF = ["--prefill", "8", "--decode", "4", "--repeat", "1"]
WITHOUT_LLAMA = "import sys; sys.modules['llama_cpp'] = None; sys.argv[0] = 'ferrum-bench'\n"


def bench(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    program = f"{code}from ferrum.runtime.bench_cli import main\nraise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True
    )


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a JSON value, with where it is."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from numbers(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value


# What may be nothing: a context of prompts, a quiet machine, a stage that was not entered.
MAY_BE_ZERO = (".rows.case.context", ".rows.foreign_cpu", ".rows.disturbed", ".rows.again",
               ".rows.stages.seconds", ".rows.stages.share")  # fmt: skip


def test_a_tiny_run_gives_json_whose_numbers_are_finite_and_positive(exported: Path) -> None:
    done = bench(exported, *BRIEF, "--batch", "1,2", "--profile", "--first-token", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert list(report) == [
        "machine", "command", "model", "limits", "rows", "ratios", "first_token", "notes",
    ]  # fmt: skip
    assert [(row["case"]["kind"], row["case"]["batch"]) for row in report["rows"]] == [
        ("prefill", 1), ("prefill", 2), ("decode", 1), ("decode", 2),
    ]  # fmt: skip
    for row in report["rows"]:
        assert (row["side"], len(row["seconds"]), len(row["limits"])) == ("ferrum", 1, 1)
        assert row["beside_caches"] < row["anonymous"]
        assert {stage["stage"] for stage in row["stages"]} >= {"qkv", "gate_up", "lm_head"}
    (start,) = report["first_token"]
    assert start["imported"] < start["loaded"] < start["token"]
    found = list(numbers(report))
    assert len(found) > 100
    for path, value in found:
        assert math.isfinite(value), path
        assert value > 0 or (value == 0 and path in MAY_BE_ZERO), path


def test_figures_and_a_chart_are_written_beside_the_tables(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json_file, chart = tmp_path / "run.json", tmp_path / "run.svg"
    arguments = [str(exported), *BRIEF, "--json", str(json_file), "--chart", str(chart)]
    assert main([*arguments, "--threads", "1"]) == 0
    output = capsys.readouterr()
    assert "prefill 8" in output.out
    assert "decode 4 at 128" in output.out
    assert output.err == ""
    content = json.loads(json_file.read_text())
    assert content["command"].endswith("run.svg --threads 1")
    assert {row["case"]["threads"] for row in content["rows"]} == {1}
    assert chart.read_text().startswith("<?xml")


@pytest.mark.parametrize("option", ["--json", "--chart"])
def test_a_report_in_a_models_place_is_refused_before_anything_is_measured(
    exported: Path, tmp_path: Path, option: str
) -> None:
    target = exported.with_name("ferrum.json")
    if option == "--chart":
        target = tmp_path / "chart.svg"
        target.hardlink_to(exported)
    before = exported.read_bytes()
    done = bench(exported, *BRIEF, option, target)
    assert (done.returncode, done.stdout) == (2, "")
    assert "itself -> another file for the report" in done.stderr
    assert exported.read_bytes() == before


def test_figures_are_shown_though_they_cannot_be_written(exported: Path) -> None:
    done = bench(exported, *BRIEF, "--json", "/dev/full")
    assert done.returncode == 2
    assert "tokens/s" in done.stdout
    assert "[/dev/full] cannot be written" in done.stderr


def test_the_machine_alone_needs_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--roofline", "--threads", "1,2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {limit["threads"] for limit in report["limits"]} == {1, 2}
    assert report["rows"] == []
    assert all(rate > 0 for limit in report["limits"] for rate in limit["rates"])


def test_the_machine_is_measured_over_a_model_s_file_too(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--roofline", str(exported), "--threads", "1"]) == 0
    assert "mapped tinycode-Q4_K_M.gguf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prefill", "x"], "--prefill: 'x' -> whole numbers"),
        (["--prefill", "0"], "--prefill: '0' -> numbers of 1 or more"),
        (["--context", ""], "--context: '' -> one number or more"),
        (["--repeat", "1,2"], "--repeat: '1,2' -> one number"),
        (["--threads", "-1"], "--threads"),
        (["--retry", "-1"], "--retry"),
        (["--vs-mode", "fast"], "--vs-mode"),
        (["--no-such-option"], "--no-such-option"),
        (["--prefill", "2000"], "at most 1,024, the model's context"),
        (["--prefill", "", "--decode", ""], "none of both"),
        (["--chart", "c.pdf"], ".svg or .png"),
        (["--chart", "none/c.svg"], "existing folder"),
        (["--json", "none/c.json"], "existing folder"),
        (["--json", "c.onnx"], "OUT.onnx comes first"),
        (["--vs", "none.gguf"], "none.gguf"),
        (["--vs-library", "x.so"], "--vs-library] no file to measure it on -> --vs"),
        (["--device", "gpu"], "--device"),
        (["--device", "cuda"], "device, got 'cuda', but"),
        (["--device", "cuda", "--vs", "m.gguf"], "--vs"),
        (["--roofline", "--device", "cuda"], "--device -> without --roofline"),
        (["--roofline", "--profile"], "--profile -> without --roofline"),
        (["--roofline", "--vs", "m.gguf"], "--vs -> without --roofline"),
        (["--roofline", "--prefill", "8"], "--prefill -> without --roofline"),
        (["--roofline", "--warm-up", "3"], "--warm-up -> without --roofline"),
    ],
)
def test_bad_arguments_get_one_line_and_exit_2(
    exported: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "llama_cpp", _Llama())
    try:
        status = main([str(exported), *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    output = capsys.readouterr()
    assert (status, output.out, output.err.count("\n")) == (2, "", 1), output.err
    assert says in output.err


class _Llama:
    __version__ = "0"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "OUT.onnx or --roofline"), (["none.onnx"], "no such file"),
     (["--json", "out.onnx"], "OUT.onnx comes first")],
)  # fmt: skip
def test_without_a_model_there_is_one_line_and_exit_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert says in output.err


def test_a_wrong_setting_of_the_environment_is_said_before_anything_is_measured(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FERRUM_NO_SUCH", "1")
    assert main([str(exported), *BRIEF]) == 2
    assert "FERRUM_NO_SUCH" in capsys.readouterr().err


def test_vs_without_llama_cpp_says_how_to_install_it(exported: Path, sample: Path) -> None:
    done = bench(exported, "--vs", sample, code=WITHOUT_LLAMA)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert (
        "CMAKE_ARGS=-DGGML_NATIVE=ON pip install '.[bench]' --no-binary llama-cpp-python"
        in done.stderr
    )


def test_a_side_that_dies_is_one_line_and_exit_1(exported: Path) -> None:
    code = (
        "import ferrum.runtime.bench.process as p, os, signal\n"
        "run = p.SideProcess.warm_up\n"
        "def die(self):\n    os.kill(self.pid, signal.SIGKILL)\n    run(self)\n"
        "p.SideProcess.warm_up = die\n"
    )
    done = bench(exported, *BRIEF, code=code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ferrum-bench: [ferrum] its process ended: status -9\n"


def test_ctrl_c_ends_the_sides_too(exported: Path) -> None:
    code = (
        "import ferrum.runtime.bench.process as p\n"
        "def stop(self):\n    print(self.pid, flush=True)\n    raise KeyboardInterrupt\n"
        "p.SideProcess.warm_up = stop\n"
    )
    done = bench(exported, *BRIEF, code=code)
    assert (done.returncode, done.stderr) == (130, "ferrum-bench: stopped\n")
    assert not os.path.exists(f"/proc/{int(done.stdout)}")


def test_a_reader_that_has_gone_costs_no_figures(exported: Path, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("ferrum-bench")), str(exported), "--prefill", "8",
        "--decode", "", "--repeat", "1", "--json", str(tmp_path / "run.json"),
    ]  # fmt: skip
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run.json").read_text())["rows"]
