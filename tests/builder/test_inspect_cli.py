"""ferrum-inspect as a user meets it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.inspect_cli import main

COMMAND = Path(sys.executable).with_name("ferrum-inspect")


def test_a_gguf_is_shown_in_words(sample: Path) -> None:
    done = subprocess.run(
        [COMMAND, sample, "--context", "512", "--batch", "2"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("16 experts of width 256", "Q6_K", "ffn_down_exps", "memory for 2 x 512 tokens"):
        assert text in done.stdout
    assert "\x1b" not in done.stdout


def test_json_holds_all_of_it(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sample), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["config"]["layers"] == 4
    assert content["memory"]["context"] == 1024
    assert {row["name"] for row in content["types"]} == {"Q4_K", "Q6_K", "F32"}
    assert content["machine"]["isa"] in content["machine"]["isas"]


def test_an_export_for_a_gpu_alone_says_nothing_of_copies(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(progress=False))
    assert main([str(tmp_path / "m.onnx")]) == 0
    assert "beside a GPU" not in capsys.readouterr().out
    assert main([str(tmp_path / "m.onnx"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["transfers"] is None


def test_experts_on_the_cpu_are_shown_with_what_a_step_copies(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(cpu_experts=2, progress=False))
    assert main([str(tmp_path / "m.onnx")]) == 0
    shown = capsys.readouterr().out
    assert "a step copies 6 tensors from the GPU and 2 to it: 2.11 kB and 2.05 kB" in shown
    for name in ("blk.0.moe", "blk.1.moe", "in all"):
        assert f"\n  {name}" in shown
    assert "blk.2.moe" not in shown
    assert main([str(tmp_path / "m.onnx"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["transfers"]
    assert [node["name"] for node in found["nodes"]] == ["blk.0.moe", "blk.1.moe"]
    assert found["down"]["bytes_per_token"] == 2 * (256 + 4 + 4) * 4
    assert found["up"] == {"values": ["blk.0.moe", "blk.1.moe"], "bytes_per_token": 2 * 256 * 4}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_type_of_activations_is_shown(
    sample: Path, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(dtype=dtype, progress=False))
    assert main([str(tmp_path / "m.onnx")]) == 0
    assert f"activations in {dtype}" in capsys.readouterr().out
    assert main([str(tmp_path / "m.onnx"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["graph"]["activation_dtype"] == dtype


def test_svg_writes_a_picture(sample: Path, tmp_path: Path) -> None:
    assert main([str(sample), "--svg", str(tmp_path / "l.svg"), "--layer", "3"]) == 0
    title = ElementTree.parse(tmp_path / "l.svg").getroot()[0]
    assert title.text == "Layer 3 of tinycode"


@pytest.mark.parametrize("name", ["m.gguf", "m.onnx"])
def test_what_is_no_model_gets_one_line_and_exit_2(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind, and some more bytes")
    assert main([str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--layer", "4"], ["--batch", "0"], ["--context", "0"]])
def test_wrong_arguments_exit_2(sample: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(sample), *arguments])


def test_a_picture_that_would_cost_the_model_is_refused(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gguf, out = tmp_path / "m.gguf", tmp_path / "out" / "m.onnx"
    shutil.copyfile(sample, gguf)
    build(gguf, out, BuildOptions(weights="link", progress=False))
    for model, target in [(gguf, gguf), (out, out), (out, gguf), (out, out.with_name("m.gguf")),
                          (out, out.with_name("genai_config.json"))]:  # fmt: skip
        before = target.read_bytes()
        assert main([str(model), "--svg", str(target)]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert target.read_bytes() == before


def test_an_export_that_onnx_runtime_refuses_is_one_line(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(progress=False))
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    model.graph.node[0].input[0] = "no such value"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert main([str(tmp_path / "m.onnx")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "ONNX Runtime refuses it" in said.err


@pytest.mark.parametrize("kind", ["onnx", "gguf"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("FERRUM_ISA", "none-such"), ("FERRUM_LIBRARY", "/none"), ("FERRUM_LIBRARY", "/etc/passwd")],
)
def test_kernels_that_cannot_be_had_are_one_line(
    sample: Path,
    tmp_path: Path,
    kind: str,
    name: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(progress=False))
    monkeypatch.setenv(name, value)
    assert main([str(sample if kind == "gguf" else tmp_path / "m.onnx")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert value in said.err
