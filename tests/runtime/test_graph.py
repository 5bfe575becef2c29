"""A graph is loaded only if it is what its manifest says, and what ONNX Runtime takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import tiny_export

from ferrum.runtime.artifact import Artifact, ArtifactError
from ferrum.runtime.graph import Graph, cache_names, session_options
from ferrum.runtime.settings import Settings, SettingsError

REFERENCE = Settings(kernels="reference")


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return tiny_export.write(tmp_path)


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence) as caught:
        Graph.load(Artifact.open(path), REFERENCE)
    assert "\n" not in str(caught.value)


def test_caches_are_named_in_order() -> None:
    assert [name.past for name in cache_names(2)] == [
        "past_key_values.0.key", "past_key_values.0.value",
        "past_key_values.1.key", "past_key_values.1.value",
    ]  # fmt: skip
    assert cache_names(1)[1].present == "present.0.value"


def test_a_file_that_is_no_graph_is_refused(export: Path) -> None:
    export.write_bytes(b"\x08\x08not a graph")
    refused(export, r"tiny\.onnx\] ONNX Runtime refuses it")


@pytest.mark.parametrize(
    ("part", "values", "sentence"),
    [
        ("model", {"layers": 3}, r"no input past_key_values\.2\.key"),
        ("model", {"vocabulary": 9}, "logits have shape .*9"),
        ("model", {"head_dim": 8}, r"past_key_values\.0\.key has shape .*8"),
        ("model", {"layers": 1}, r"inputs that the runtime does not know: past_key_values\.1\.key"),
        ("graph", {"kv_dtype": "float16"}, r"is tensor\(float\) -> tensor\(float16\)"),
    ],
)
def test_a_graph_that_is_not_the_manifest_s_is_refused(
    export: Path, part: str, values: dict[str, Any], sentence: str
) -> None:
    file = export.parent / "ferrum.json"
    manifest = json.loads(file.read_text())
    manifest[part].update(values)
    file.write_text(json.dumps(manifest))
    refused(export, sentence)


def test_a_graph_without_an_output_is_refused(export: Path) -> None:
    model = onnx.load(export)
    del model.graph.output[1]
    onnx.save(model, export)
    refused(export, r"no output present\.0\.key")


def test_an_instruction_set_that_the_library_lacks_is_a_setting_s_error(export: Path) -> None:
    with pytest.raises(SettingsError, match=r"ferrum\.isa.*neon") as caught:
        Graph.load(Artifact.open(export), Settings(isa="neon"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "key", "entry"),
    [
        ({"arithmetic": "exact"}, "ferrum.arithmetic", "exact"),
        ({"isa": "generic"}, "ferrum.isa", "generic"),
        ({"moe_path": "grouped"}, "ferrum.moe_path", "grouped"),
        ({"moe_few_max": 7}, "ferrum.moe_few_max", "7"),
        ({"moe_block_size": "32"}, "ferrum.moe_block_size", "32"),
        ({"moe_gate_up": "unfused"}, "ferrum.moe_gate_up", "unfused"),
        ({"route": "host"}, "ferrum.route", "host"),
        ({"page_in": "experts"}, "ferrum.page_in", "experts"),
        ({"profile": True}, "ferrum.profile", "1"),
        ({"spin": False}, "session.intra_op.allow_spinning", "0"),
    ],
)
def test_settings_reach_the_library_and_onnxruntime(
    values: dict[str, Any], key: str, entry: str
) -> None:
    assert session_options(Settings(**values)).get_session_config_entry(key) == entry
    options = session_options(Settings())
    if key == "ferrum.moe_few_max":  # which the kernels know best
        with pytest.raises(RuntimeError, match="does not have"):
            options.get_session_config_entry(key)
    else:
        assert options.get_session_config_entry(key) != entry


def test_threads_are_onnxruntime_s() -> None:
    assert session_options(Settings(threads=3)).intra_op_num_threads == 3
