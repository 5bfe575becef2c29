"""Modules as processes: as `python -m` runs them, but for what lies in the current folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ferrum.commands.child import module_command


@pytest.mark.parametrize("safe", ["", "1"])
def test_a_file_of_the_current_folder_is_no_module(tmp_path: Path, safe: str) -> None:
    for name in ("token", "random", "json", "ferrum"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('my own file ran')")
    done = subprocess.run(
        [*module_command("ferrum.custom_ops.ops_page")],
        cwd=tmp_path, env={"PYTHONSAFEPATH": safe}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# The ops of the domain")
