"""An export is taken only whole: manifest readable, files there, weights those it was made for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrum.commands.journal import JOURNAL, identity
from ferrum.runtime.artifact import Artifact, ArtifactError


@pytest.fixture
def export(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny export, for damage."""
    shutil.copytree(tiny.parent, tmp_path / "export")
    return tmp_path / "export" / tiny.name


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence) as caught:
        Artifact.open(path)
    assert "\n" not in str(caught.value)


def complaint(path: Path) -> str:
    """What is wrong with an export; nothing where it opens."""
    try:
        Artifact.open(path)
    except ArtifactError as error:
        return str(error)
    return ""


def edited(export: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    manifest = json.loads((export.parent / "ferrum.json").read_text())
    edit(manifest)
    (export.parent / "ferrum.json").write_text(json.dumps(manifest))
    return export


def test_the_onnx_or_its_folder_opens_the_export(export: Path) -> None:
    for path in (export, str(export), export.parent):
        artifact = Artifact.open(path)
        assert artifact.path == export
        assert artifact.manifest.tokenizer.eos == [artifact.manifest.tokenizer.pad]
        assert artifact.chat_template == export.parent / "chat_template.jinja"


def test_keys_of_a_newer_builder_are_not_in_the_way(export: Path) -> None:
    Artifact.open(edited(export, lambda m: m["model"].update(novelty=1)))


def test_graphs_of_older_builders_have_no_experts_on_the_cpu(export: Path) -> None:
    edited(export, lambda m: m["graph"].pop("cpu_experts", None))
    assert Artifact.open(export).manifest.graph.cpu_experts == 0


def test_a_build_that_was_killed_among_its_renames_is_told(export: Path) -> None:
    left = export.parent / ".ferrum-1-00000000"
    (left / "new").mkdir(parents=True)
    (left / "new" / export.name).write_text("of the new build")
    journal = {"tokenizer.json": identity(export.parent / "tokenizer.json"), export.name: [1, 2, 3]}
    (left / JOURNAL).write_text(json.dumps(journal))
    refused(export, r"a build here has not ended, or was killed half-way -> ")


def test_a_chat_template_is_optional(export: Path) -> None:
    edited(export, lambda m: m["tokenizer"].update(chat_template=None))
    assert Artifact.open(export).chat_template is None


def test_what_is_no_export_is_refused(export: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nothing.onnx", r"nothing\.onnx\] no such file")
    (tmp_path / "alone.onnx").write_bytes(b"")
    refused(tmp_path / "alone.onnx", r"no ferrum\.json")
    shutil.copy(export, export.with_name("other.onnx"))
    refused(export.with_name("other.onnx"), r"is of tiny\.onnx")


@pytest.mark.parametrize("name", ["tiny.onnx", "tokenizer.json", "chat_template.jinja"])
def test_a_missing_file_is_named(export: Path, name: str) -> None:
    (export.parent / name).unlink()
    refused(export.parent, rf"{name}\] is missing")


def test_replaced_weights_are_noticed(export: Path) -> None:
    weights = export.parent / "tiny.gguf"
    whole = weights.read_bytes()
    weights.write_bytes(whole + b"x")
    refused(export, r"tiny\.gguf\] 1,025 bytes.*1,024")
    weights.write_bytes(b"x" + whole[1:])
    refused(export, r"tiny\.gguf\] another header")
    weights.unlink()
    refused(export, r"tiny\.gguf\] cannot be read")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda m: m.update(format=2), "format"),
        (lambda m: m.pop("graph"), "graph"),
        (lambda m: m["model"].update(layers=0), r"model\.layers"),
        (lambda m: m["model"].update(vocabulary="many"), r"model\.vocabulary"),
        (lambda m: m["graph"].update(kv_dtype="int4"), r"graph\.kv_dtype"),
        (lambda m: m["graph"].update(cpu_experts=-1), r"graph\.cpu_experts"),
        (lambda m: m["graph"].update(file="../tiny.onnx"), r"graph\.file"),
        (lambda m: m["source"]["files"][0].update(file="/etc/passwd"), r"source\.files\.0\.file"),
    ],
)
def test_a_damaged_manifest_is_named_by_its_key(
    export: Path, edit: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    refused(edited(export, edit), rf"ferrum\.json\] {sentence}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, 2000), byte=st.integers(0, 255))
def test_any_broken_byte_is_refused_or_harmless(export: Path, cut: int, byte: int) -> None:
    file = export.parent / "ferrum.json"
    whole = file.read_bytes()
    at = cut % len(whole)
    try:
        for damaged in (whole[:at], whole[:at] + bytes([byte]) + whole[at + 1 :]):
            file.write_bytes(damaged)
            assert "\n" not in complaint(export)
    finally:
        file.write_bytes(whole)
