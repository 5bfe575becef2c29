"""ferrum-bench on a GPU: times, and no limits that nobody measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ferrum.runtime.bench_cli import main

CODE = "from ferrum.runtime.bench_cli import main\nraise SystemExit(main())"
BRIEF = ["--device", "cuda", "--prefill", "8", "--decode", "4", "--repeat", "1"]


def test_a_run_has_times_and_names_the_gpu(exported: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(exported), *BRIEF, "--batch", "1,3", "--first-token",
         "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert "132 multiprocessors of compute capability 9.0" in report["machine"]["gpu"]
    assert report["limits"] == []
    assert [(row["case"]["kind"], row["case"]["batch"]) for row in report["rows"]] == [
        ("prefill", 1), ("prefill", 3), ("decode", 1), ("decode", 3),
    ]  # fmt: skip
    for row in report["rows"]:
        assert row["tokens_per_second"]["median"] > 0
        assert (row["limit"], row["fraction"]) == (None, None)
    assert report["first_token"]


def test_tables_and_a_chart_do_without_limits(exported: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    chart = tmp_path / "run.svg"
    assert main([str(exported), *BRIEF, "--chart", str(chart)]) == 0
    printed = capsys.readouterr().out
    assert "compute capability 9.0" in printed
    assert "the machine alone" not in printed
    assert chart.exists()


def test_llama_cpp_is_not_measured_beside_a_gpu(exported: Path, sample: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main([str(exported), *BRIEF, "--vs", str(sample)]) == 2
    assert "--vs] llama.cpp is measured on the CPU" in capsys.readouterr().err
