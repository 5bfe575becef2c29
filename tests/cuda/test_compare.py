"""Builds side by side on a GPU, as far as it goes without one: each is measured in every round."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = str(Path(__file__).resolve().parents[1] / "gpu" / "compare.py")
BENCH = "--prefill '' --decode 4 --batch 1,2"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)


def test_every_build_is_measured_in_every_round(exported: Path, tmp_path: Path) -> None:
    builds = [tmp_path / "before", tmp_path / "after"]  # with nothing of their own
    for build in builds:
        build.mkdir()
    report = tmp_path / "speeds.json"
    done = run(str(exported), *map(str, builds), "--rounds", "2", "--bench", BENCH,
               "--json", str(report))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    speeds = json.loads(report.read_text())
    assert list(speeds) == ["decode 4, batch 1, context 128", "decode 4, batch 2, context 128"]
    for of_build in speeds.values():
        assert {name: len(found) for name, found in of_build.items()} == {"before": 2, "after": 2}
        assert min(map(min, of_build.values())) > 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["decode", "before", "after"] * 2
    assert [line.split()[-1] for line in lines[1::3]] == ["1.000", "1.000"]


def test_a_build_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("model.onnx", str(tmp_path), str(tmp_path / "none.whl"))
    assert done.returncode == 2
    assert f"no {tmp_path / 'none.whl'} -> a wheel of ferrum" in done.stderr
