"""ferrum-check on an export whose weights are re-laid: it proves them, and finds what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from export_folder import ExportFolder, attribute, place, tensor
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.check.export import Export

HEAD = "output.weight"


@pytest.fixture
def relaid(sample: Path, tmp_path: Path) -> ExportFolder:
    """An export of the sample for CUDA; `weights` is the file of the re-laid ones."""
    folder = tmp_path / "relaid"
    build(sample, folder / "m.onnx", BuildOptions(layout="cuda", progress=False))
    return ExportFolder(folder / "m.onnx", folder / "m.planes", sample)


def failing(export: ExportFolder, *names: str) -> dict[str, str]:
    findings = export.findings(*names, source=True)
    return {name: f.found for name, f in findings.items() if f.status == "fail"}


def test_all_checks_pass(relaid: ExportFolder) -> None:
    findings = relaid.findings(source=True)
    assert {name: f.found for name, f in findings.items() if f.status == "fail"} == {}
    assert {findings[name].status for name in ("weight bytes", "logits")} == {"pass"}
    assert "in 2 files" in findings["external references"].found
    assert "m.planes" in findings["source files"].found
    plain = relaid.path.parent.parent / "plain" / "m.onnx"
    build(relaid.gguf, plain, BuildOptions(progress=False))
    other = ExportFolder(plain, plain.parent / relaid.gguf.name, relaid.gguf)
    # The digest is of the blocks' own bytes, whichever order they lie in.
    digest = findings["weight bytes"].found[-16:]
    assert other.finding("weight bytes", source=True).found[-16:] == digest


@pytest.mark.parametrize("mixture", ["Q8_0", "MXFP4", "Q6_K"])
def test_every_layout_passes(mixture: str, tmp_path: Path) -> None:
    (source,) = write_synthetic(tmp_path / "m.gguf", SyntheticSpec(mixture=mixture))
    build(source, tmp_path / "out" / "m.onnx", BuildOptions(layout="cuda", progress=False))
    export = ExportFolder(tmp_path / "out" / "m.onnx", tmp_path / "out" / "m.planes", source)
    assert failing(export) == {}


def test_a_flipped_bit_is_found_and_its_tensor_named(relaid: ExportFolder) -> None:
    offset = Export(relaid.path).references[HEAD].offset + 1000
    with relaid.weights.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    found = failing(relaid, "source files", "tensor table", "weight bytes")
    assert set(found) == {"weight bytes"}
    assert f"{HEAD}: bytes differ" in found["weight bytes"]


def test_the_file_of_other_weights_is_found(relaid: ExportFolder, tmp_path: Path) -> None:
    with relaid.weights.open("r+b") as file:
        header = file.readline()
        at = header.index(b'"sha256": "') + 11
        file.seek(at)
        file.write(b"0" * 64)
    assert "m.planes: header_sha256" in failing(relaid, "source files")["source files"]
    relaid.weights.unlink()
    found = failing(relaid, "source files", "external references", "weight bytes")
    assert set(found) == {"source files", "external references", "weight bytes"}


def test_planes_taken_for_blocks_are_found(relaid: ExportFolder) -> None:
    with relaid.graph() as model:
        attribute(model, "lm_head", "type").i = 14
    found = failing(relaid, "weight types", "constants")
    assert set(found) == {"weight types", "constants"}
    assert "taken for Q6_K -> Q6_K_planes" in found["weight types"]


def test_a_tensor_in_anothers_place_is_found(relaid: ExportFolder) -> None:
    with relaid.graph() as model:
        place(tensor(model, HEAD), "offset", 8192)
    assert "output.weight" in failing(relaid, "tensor table")["tensor table"]


def test_a_cut_file_is_found(relaid: ExportFolder) -> None:
    with relaid.weights.open("r+b") as file:
        file.truncate(relaid.weights.stat().st_size // 2)
    found = failing(relaid, "external references", "source files", "weight bytes")
    assert set(found) == {"external references", "source files", "weight bytes"}


def test_a_copied_folder_is_as_good(relaid: ExportFolder, tmp_path: Path) -> None:
    shutil.copytree(relaid.path.parent, tmp_path / "copy")
    (tmp_path / "copy" / "m.onnx").rename(tmp_path / "copy" / "renamed.onnx")
    copy = ExportFolder(tmp_path / "copy" / "renamed.onnx", relaid.weights, relaid.gguf)
    assert failing(copy, "external references", "source files", "tensor table") == {}
