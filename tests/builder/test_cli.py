"""ferrum-build as a user meets it: exit codes, one line for bad input, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic import SyntheticSpec, write_synthetic

COMMAND = Path(sys.executable).with_name("ferrum-build")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)


def test_a_build_reports_what_it_wrote(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf")
    done = run(tmp_path / "m.gguf", tmp_path / "out" / "m.onnx", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["weights"] == [{"source": str(tmp_path / "m.gguf"), "method": "link"}]
    assert set(report["files"]) == {p.name for p in (tmp_path / "out").iterdir()}
    assert report["model"]["layers"] == 2


def test_experts_on_the_cpu_are_reported(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf")
    done = run(tmp_path / "m.gguf", tmp_path / "m.onnx", "--cpu-experts", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "experts of 2 layers stay on the CPU beside a GPU" in done.stdout


@pytest.mark.parametrize(("dtype", "name"), [("f16", "float16"), ("bf16", "bfloat16")])
def test_the_type_of_activations_is_reported(tmp_path: Path, dtype: str, name: str) -> None:
    write_synthetic(tmp_path / "m.gguf")
    done = run(tmp_path / "m.gguf", tmp_path / "m.onnx", "--dtype", dtype)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"activations in {name}" in done.stdout


def test_another_type_of_activations_exits_2(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf")
    done = run(tmp_path / "m.gguf", tmp_path / "out" / "m.onnx", "--dtype", "int8")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--dtype" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("count", ["3", "-1", "some"])
def test_a_bad_count_of_layers_exits_2(tmp_path: Path, count: str) -> None:
    write_synthetic(tmp_path / "m.gguf")
    done = run(tmp_path / "m.gguf", tmp_path / "out" / "m.onnx", "--cpu-experts", count)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--cpu-experts" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_copy_library_puts_the_kernels_beside_and_names_them_to_genai(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf")
    done = run(tmp_path / "m.gguf", tmp_path / "m.onnx", "--copy-library", "--quiet")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    config = json.loads((tmp_path / "genai_config.json").read_text())
    name = config["model"]["decoder"]["session_options"]["custom_ops_library"]
    assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a GGUF"),
        (b"PK\x03\x04" + bytes(60), "not a GGUF"),
        (b"GGUF" + (3).to_bytes(4, "big") + bytes(60), "big-endian"),
        (b"GGUF" + (9).to_bytes(4, "little") + bytes(60), "version 9"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16, "tensors|key-value"),
    ],
)
def test_what_is_no_model_gets_one_line_exit_2_and_no_output(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    done = run(tmp_path / "m.gguf", tmp_path / "out" / "m.onnx")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert any(part in done.stderr for part in says.split("|"))
    assert not (tmp_path / "out").exists()


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    done = run(tmp_path / "cut.gguf", tmp_path / "out" / "m.onnx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cut.gguf" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_of_zero_experts_is_refused(tmp_path: Path) -> None:
    spec = SyntheticSpec(metadata={"qwen3moe.expert_count": np.uint32(0)})
    write_synthetic(tmp_path / "m.gguf", spec)
    done = run(tmp_path / "m.gguf", tmp_path / "m.onnx")
    assert done.returncode == 2
    assert "expert_count: 0 -> 1 to 4096" in done.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = run(tmp_path / "none.gguf", tmp_path / "m.onnx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "none.gguf" in done.stderr


def test_an_unknown_option_exits_2(tmp_path: Path) -> None:
    assert run("m.gguf", "m.onnx", "--weigths", "copy").returncode == 2


def test_help_explains_the_ways_of_the_weights() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("reference", "link", "copy", "auto", "--kv-dtype", "--dtype", "--max-context",
                 "examples"):  # fmt: skip
        assert word in done.stdout
