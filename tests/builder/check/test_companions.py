"""What a runtime reads beside the graph is there, can be read, and is what the GGUF makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export_folder import ExportFolder
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.commands.journal import JOURNAL, identity

NAMES = ("manifest", "companion files")


def failing(export: ExportFolder, *, source: bool = False) -> dict[str, str]:
    findings = export.findings(*NAMES, source=source)
    return {name: f.found for name, f in findings.items() if f.status == "fail"}


def change(export: ExportFolder, name: str, edit: Callable[[Any], None]) -> None:
    """Edit one of the JSON files."""
    path = export.path.with_name(name)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_a_sound_export_passes(pristine: ExportFolder) -> None:
    assert {f.status for f in pristine.findings(*NAMES).values()} == {"pass"}
    found = pristine.findings(*NAMES, source=True)["companion files"]
    assert found.found == (
        "tokenizer.json, tokenizer_config.json, chat_template.jinja, genai_config.json: as the "
        "GGUF makes them"
    )


def test_a_build_that_was_killed_among_its_renames_fails(export: ExportFolder) -> None:
    folder = export.path.parent
    left = folder / ".ferrum-1-00000000"
    (left / "new").mkdir(parents=True)
    (left / "new" / "m.onnx").write_text("of the new build")
    moved = {"tokenizer.json": identity(folder / "tokenizer.json"), "m.onnx": [1, 2, 3]}
    (left / JOURNAL).write_text(json.dumps(moved))
    wanted = "a build in this folder has not ended, or was killed half-way"
    assert failing(export) == {"manifest": wanted}


def test_how_genai_searches_and_runs_is_nobody_s_but_the_user_s(export: ExportFolder) -> None:
    def edit(content: Any) -> None:
        content["search"]["max_length"] = 7
        content["engine"]["dynamic_batching"]["max_batch_size"] = 3
        content["model"]["decoder"]["session_options"]["intra_op_num_threads"] = 1

    change(export, "genai_config.json", edit)
    assert failing(export, source=True) == {}


def test_a_model_without_a_template_needs_none(tmp_path: Path) -> None:
    (gguf,) = write_synthetic(
        tmp_path / "m.gguf", SyntheticSpec(metadata={"tokenizer.chat_template": None})
    )
    build(gguf, tmp_path / "out" / "m.onnx", BuildOptions(copy_library=True, progress=False))
    export = ExportFolder(tmp_path / "out" / "m.onnx", gguf, gguf)
    assert failing(export, source=True) == {}


@pytest.mark.parametrize(
    "name",
    ["ferrum.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
     "genai_config.json"],
)  # fmt: skip
@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""])
def test_a_file_that_is_missing_or_damaged(
    export: ExportFolder, name: str, content: bytes | None
) -> None:
    path = export.path.with_name(name)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    found = failing(export, source=True)
    check = "manifest" if name == "ferrum.json" else "companion files"
    assert set(found) == {check}
    assert found[check].startswith(name)
    if name != "chat_template.jinja" or content != b"":  # an empty template is one
        assert set(failing(export)) == {check}


@pytest.mark.parametrize("text", ["[]", "{}", '{"model": {"type": "BPE"}}', "[" * 100_000])
def test_a_tokenizer_that_is_none(export: ExportFolder, text: str) -> None:
    export.path.with_name("tokenizer.json").write_text(text)
    assert failing(export)["companion files"].startswith("tokenizer.json")


def test_a_tokenizer_that_lacks_merges(export: ExportFolder) -> None:
    change(export, "tokenizer.json", lambda content: content["model"]["merges"].pop())
    found = failing(export, source=True)
    assert set(found) == {"companion files"}
    assert "tokenizer.json: model.merges " in found["companion files"]


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("format",), 2, "format 2 -> 1"),
        (("graph", "file"), "other.onnx", "graph.file other.onnx -> m.onnx, as in the graph"),
        (("graph", "kv_dtype"), "float32", "graph.kv_dtype float32 -> float16, as in the graph"),
        (("tokenizer", "eos"), [4095, 4093, 7], "eos [4095, 4093, 7] -> [4095, 4093], as the GGUF"),
        (("tokenizer", "bos"), None, "tokenizer.bos None -> 4093"),
        (("tokenizer", "add_bos"), True, "tokenizer.add_bos True -> False"),
        (("tokenizer", "file"), "x.json", "tokenizer.file 'x.json' -> 'tokenizer.json'"),
        (("tokenizer",), [], "tokenizer [] -> "),
        (("graph",), 1, "graph.file None -> m.onnx"),
    ],
)
def test_a_manifest_that_tells_something_else(
    export: ExportFolder, keys: tuple[str, ...], value: Any, says: str
) -> None:
    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    change(export, "ferrum.json", edit)
    assert says in failing(export)["manifest"]


def test_a_manifest_of_another_graph(export: ExportFolder, tmp_path: Path) -> None:
    (other,) = write_synthetic(tmp_path / "o.gguf")
    build(other, tmp_path / "other" / "m.onnx", BuildOptions(progress=False))
    text = (tmp_path / "other" / "ferrum.json").read_text()
    export.path.with_name("ferrum.json").write_text(text)
    found = failing(export)["manifest"]
    assert "model is not what the graph says" in found


def test_another_template_or_config_needs_the_gguf(export: ExportFolder) -> None:
    export.path.with_name("chat_template.jinja").write_text("{{ messages }}")
    change(export, "genai_config.json", lambda content: content["model"].update(vocab_size=1))
    assert failing(export) == {}
    found = failing(export, source=True)["companion files"]
    assert "genai_config.json: model.vocab_size 1 -> 4096, as the GGUF says" in found


def test_genai_is_told_this_graph_and_a_library_that_is_there(export: ExportFolder) -> None:
    def edit(content: Any) -> None:
        content["model"]["decoder"]["filename"] = "other.onnx"
        content["model"]["decoder"]["session_options"] = {"custom_ops_library": "none.so"}

    change(export, "genai_config.json", edit)
    found = failing(export)["companion files"]
    assert "'none.so': missing; genai_config.json names it" in found
    assert "model.decoder.filename -> m.onnx" in found
    export.path.with_name("genai_config.json").write_text('{"model": []}')
    assert "model.decoder.filename -> m.onnx" in failing(export)["companion files"]
