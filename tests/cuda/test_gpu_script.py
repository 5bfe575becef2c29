"""The one command for a GPU, as far as it goes without one: every speed that it is to measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

ROOT = Path(__file__).resolve().parents[2]
# What needs no kernel to compute: not the build, the op tests, the sample's text, the sanitizer and
# the kernels' times.
STEPS = ["bench4", "bench48", "batch48", "tiles48", "layout48", "f16_48", "host"]
SMI = """#!/bin/sh
case "$*" in *compute_cap*) echo 9.0 ;; *) echo "a stand-in" ;; esac
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Models of a few megabytes in a folder of their own, and a stand-in for nvidia-smi."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(SMI)
    smi.chmod(0o755)
    commands = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{smi.parent}:{commands}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "GPU_STEPS": " ".join(STEPS),
        "GPU_MODEL": "--preset tiny --context 8192",
        "GPU_WORK": str(tmp_path / "models"),
    }


def run_script(out: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    packages = Path(onnxruntime.__file__).parents[1]
    return subprocess.run(
        ["tests/gpu/run.sh", str(packages), str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def test_every_speed_of_the_script_is_measured(tmp_path: Path, environment: dict[str, str]) -> None:
    out = tmp_path / "out"
    done = run_script(out, environment)
    logs = {log.stem: log.read_text() for log in out.glob("*.log")}
    assert done.returncode == 0, f"{done.stdout}\n{logs}"
    assert done.stderr == ""
    summary = (out / "summary.txt").read_text().splitlines()
    assert [line.split()[:2] for line in summary[2:]] == [[step, "ok"] for step in STEPS]
    # The table that is printed last has a line of each step's.
    assert {line.split(":")[0] for line in done.stdout.splitlines() if ": " in line} >= set(STEPS)
    reports = [json.loads(path.read_text()) for path in out.glob("*.json")]
    assert len(reports) == 9
    for report in reports:
        assert all(row["tokens_per_second"]["median"] > 0 for row in report["rows"])


def test_it_ends_in_time_and_names_what_is_left(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    out = tmp_path / "out"
    done = run_script(out, {**environment, "GPU_SECONDS": "0"})
    assert (done.returncode, done.stderr) == (1, "")
    lines = (out / "summary.txt").read_text().splitlines()
    assert [line.split(maxsplit=1) for line in lines[2:]] == [
        [step, "no time left"] for step in STEPS
    ]
