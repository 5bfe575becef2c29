"""The README tells the truth: its table of types and its programs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from served import served

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
        if not quant["fields"]  # no file has the layouts in planes
    ]


PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SERVER = "http://127.0.0.1:8080"


def test_it_has_a_program_for_the_model_the_server_and_onnx_runtime() -> None:
    assert [SERVER in program for program in PROGRAMS] == [False, True, False]


@pytest.mark.parametrize("number", range(3))
def test_its_python_programs_run_as_they_stand(tmp_path: Path, sample: Path, number: int) -> None:
    build(sample, tmp_path / "out" / "model.onnx")
    program = PROGRAMS[number].replace("LIBRARY", repr(str(library_path())))
    with ExitStack() as stack:
        if SERVER in program:
            model = tmp_path / "out" / "model.onnx"
            server = stack.enter_context(served(model, "--model-name", "tinycode"))
            program = program.replace(SERVER, server.url)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 100


def test_its_curl_commands_are_answered(tmp_path: Path, sample: Path) -> None:
    commands = re.findall(r"^curl (?:-N )?(http.*?)(?<!\\)$", README, re.MULTILINE | re.DOTALL)
    assert len(commands) == 3
    build(sample, tmp_path / "model.onnx")
    with served(tmp_path / "model.onnx") as server:
        for command in commands:
            url, *options = shlex.split(command.replace("\\\n", " "))
            address = url.replace(SERVER, server.url)
            if "-d" in options:
                body = options[options.index("-d") + 1]
                name, _, value = options[options.index("-H") + 1].partition(": ")
                answer = httpx.post(address, content=body, headers={name: value}, timeout=60)
            else:
                answer = httpx.get(address, timeout=60)
            assert answer.status_code == 200, answer.text
