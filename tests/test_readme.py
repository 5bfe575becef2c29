"""The README tells the truth: its table of types and its programs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ferrum.builder.build import build
from ferrum.custom_ops.library import describe, library_path

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def test_the_table_of_types_is_the_librarys() -> None:
    table = re.findall(
        r"^\| (\w+) \| (\d+) \| ([\d.]+) \| (int8|float32) \|$", README, re.MULTILINE
    )
    assert table == [
        (
            quant["name"],
            str(quant["id"]),
            f"{quant['bytes'] * 8 / quant['block']:g}",
            "int8" if quant["int8"] else "float32",
        )
        for quant in describe()["quants"]
    ]


@pytest.mark.parametrize("number", range(2))
def test_its_python_programs_run_as_they_stand(tmp_path: Path, sample: Path, number: int) -> None:
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(programs) == 2
    build(sample, tmp_path / "out" / "model.onnx")
    program = programs[number].replace("LIBRARY", repr(str(library_path())))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 100
