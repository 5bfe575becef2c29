"""ferrum-check as a user and a CI job meet it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.check_cli import main

COMMAND = Path(sys.executable).with_name("ferrum-check")


@pytest.fixture(scope="module")
def export(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "m.onnx"
    build(sample, out, BuildOptions(weights="copy", progress=False))
    return out


def test_a_sound_export_exits_0_with_one_line_a_check(export: Path, sample: Path) -> None:
    done = subprocess.run(
        [COMMAND, export, "--gguf", sample, "--seed", "7"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows, summary = done.stdout.splitlines()
    assert "seed 7" in head
    passed = [row for row in rows if row.startswith("pass  ")]
    assert summary.startswith(f"{len(rows)} checks: {len(passed)} passed")
    assert not any(row.startswith("fail  ") for row in rows)


def test_a_failure_exits_1_and_is_in_json_and_junit(export: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(export.read_bytes())  # without its weights
    status = main([
        str(tmp_path / "m.onnx"), "--only", "external references", "--only", "versions",
        "--only", "weight bytes",
        "--json", str(tmp_path / "c.json"), "--junit", str(tmp_path / "c.xml"),
    ])  # fmt: skip
    assert status == 1
    report = json.loads((tmp_path / "c.json").read_text())
    assert (report["passed"], report["seed"]) == (False, 0)
    assert {row["name"]: row["status"] for row in report["checks"]} == {
        "versions": "pass", "external references": "fail", "weight bytes": "skip",
    }  # fmt: skip
    suite = ElementTree.parse(tmp_path / "c.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failures = {case.get("name"): case.find("failure") for case in suite}
    failure = failures["external references"]
    assert failure is not None
    assert "missing" in str(failure.get("message"))


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF" + bytes(60)])
def test_what_is_no_export_gets_one_line_and_exit_2(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert main([str(tmp_path / "m.onnx")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert str(tmp_path / "m.onnx") in said.err


def test_files_that_are_not_there_get_exit_2(export: Path, tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.onnx")]) == 2
    assert main([str(export), "--gguf", str(tmp_path / "none.gguf")]) == 2


@pytest.mark.parametrize(
    ("key", "text"),
    [("ferrum.config", "[]"), ("ferrum.config", "{"), ("ferrum.source", "[]"),
     ("ferrum.source", '[{"file": 1}]')],
)  # fmt: skip
def test_metadata_that_are_not_ferrums_get_exit_2(
    export: Path, tmp_path: Path, key: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(export, load_external_data=False)
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = text
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert main([str(tmp_path / "m.onnx")]) == 2
    assert key in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--only", "kernals"], ["--seed", "-1"], ["--samples", "0"]])
def test_wrong_arguments_exit_2_with_what_is_allowed(export: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(export), *arguments])


def test_a_report_that_would_cost_the_model_is_refused(
    export: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "linked"
    folder.mkdir()
    gguf = tmp_path / "m.gguf"
    shutil.copyfile(sample, gguf)
    build(gguf, folder / "m.onnx", BuildOptions(weights="link", progress=False))
    for option in ("--json", "--junit"):
        for target in (folder / "m.onnx", gguf, folder / "m.gguf", folder / "tokenizer.json",
                       folder / "ferrum.json", tmp_path / "none" / "c.json"):  # fmt: skip
            before = target.read_bytes() if target.exists() else None
            assert main([str(folder / "m.onnx"), option, str(target)]) == 2
            said = capsys.readouterr()
            assert (said.out, said.err.count("\n")) == ("", 1)  # before any check
            assert (target.read_bytes() if target.exists() else None) == before


def test_reports_are_written_though_no_one_reads_the_table(export: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    call = [COMMAND, export, "--only", "versions", "--json", tmp_path / "c.json"]
    done = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "c.json").read_text())["passed"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("FERRUM_ISA", "none-such"), ("FERRUM_LIBRARY", "/none"), ("FERRUM_LIBRARY", "/etc/passwd")],
)
def test_kernels_that_cannot_be_had_are_no_fault_of_the_export(
    export: Path,
    name: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert main([str(export), "--only", "versions"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert value in said.err
