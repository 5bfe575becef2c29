"""A build writes what it says, refers to every byte in place, and refuses bad models whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.gguf import GGUF
from ferrum.builder.outputs import OutputError
from ferrum.builder.weights import Mode
from ferrum.models.qwen3_moe.config import ModelError
from ferrum.runtime.artifact import Artifact


def references(path: Path) -> dict[str, tuple[Path, int, int]]:
    """Initializer -> (file, offset, length) of its external data."""
    found = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        entries = {e.key: e.value for e in tensor.external_data}
        if entries:
            where = path.parent / entries["location"]
            found[tensor.name] = (where, int(entries["offset"]), int(entries["length"]))
    return found


@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_is_referred_to_where_the_gguf_has_it(tmp_path: Path, shards: int) -> None:
    files = write_synthetic(tmp_path / "m.gguf", SyntheticSpec(shards=shards))
    build(files[0], tmp_path / "m.onnx")
    found = references(tmp_path / "m.onnx")
    gguf = GGUF.open(files[0])
    assert found == {n: (t.path, t.offset, t.nbytes) for n, t in gguf.tensors.items()}


def test_any_shard_of_a_split_model_will_do(tmp_path: Path) -> None:
    files = write_synthetic(tmp_path / "m.gguf", SyntheticSpec(shards=3))
    build(files[2], tmp_path / "m.onnx")
    assert {path for path, _, _ in references(tmp_path / "m.onnx").values()} == set(files)


def test_the_source_is_untouched_and_no_second_copy_is_made(tmp_path: Path) -> None:
    source = tmp_path / "in" / "m.gguf"
    source.parent.mkdir()
    write_synthetic(source)
    before = source.read_bytes()
    result = build(source, tmp_path / "out" / "m.onnx")
    assert source.read_bytes() == before
    assert result.methods == ("link",)
    assert (tmp_path / "out" / "m.gguf").samefile(source)


def test_norms_that_are_not_f32_are_stored_decoded(tmp_path: Path) -> None:
    spec = SyntheticSpec(types={"*_norm.weight": "F16"})
    write_synthetic(tmp_path / "m.gguf", spec)
    build(tmp_path / "m.gguf", tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    (norm,) = (i for i in model.graph.initializer if i.name == "blk.1.ffn_norm.weight")
    stored = GGUF.open(tmp_path / "m.gguf").tensors["blk.1.ffn_norm.weight"].read()
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(norm), stored.view(np.float16).astype(np.float32)
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_type_of_activations_is_told_in_both_places(tmp_path: Path, dtype: str) -> None:
    write_synthetic(tmp_path / "m.gguf")
    assert build(tmp_path / "m.gguf", tmp_path / "m.onnx", BuildOptions(dtype=dtype)).dtype == dtype
    content = json.loads((tmp_path / "ferrum.json").read_text())
    assert content["graph"]["activation_dtype"] == dtype
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["ferrum.activation_dtype"] == dtype


def test_ferrum_json_names_the_source_by_size_and_header_hash(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(mixture="Q4_K_M"))
    build(tmp_path / "m.gguf", tmp_path / "m.onnx", BuildOptions(max_context=128))
    content = json.loads((tmp_path / "ferrum.json").read_text())
    (file,) = GGUF.open(tmp_path / "m.gguf").files
    assert content["source"]["files"] == [
        {
            "file": "m.gguf",
            "bytes": file.size,
            "header_bytes": file.header_bytes,
            "header_sha256": file.sha256,
        }
    ]
    assert content["model"]["context_length"] == 128
    assert set(content["types"]) == {"Q4_K", "Q6_K", "F32"}
    props = {
        p.key: p.value
        for p in onnx.load(tmp_path / "m.onnx", load_external_data=False).metadata_props
    }
    assert json.loads(props["ferrum.source"]) == content["source"]["files"]


def test_a_context_beyond_the_models_is_refused(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(context=512))
    with pytest.raises(ModelError, match=r"--max-context 1024 -> 1 to the model's 512"):
        build(tmp_path / "m.gguf", tmp_path / "m.onnx", BuildOptions(max_context=1024))


def test_ferrum_json_says_how_many_layers_experts_stay_on_the_cpu(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(layers=3))
    for layers in (0, 2):
        build(
            tmp_path / "m.gguf", tmp_path / "m.onnx", BuildOptions(cpu_experts=layers, force=True)
        )
        content = json.loads((tmp_path / "ferrum.json").read_text())
        assert content["graph"]["cpu_experts"] == layers


@pytest.mark.parametrize("layers", [-1, 4])
def test_experts_of_more_layers_than_there_are_are_refused(tmp_path: Path, layers: int) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(layers=3))
    wanted = rf"^\[m\.gguf\] --cpu-experts {layers} -> 0 to the model's 3 layers$"
    with pytest.raises(ModelError, match=wanted):
        build(tmp_path / "m.gguf", tmp_path / "out" / "m.onnx", BuildOptions(cpu_experts=layers))
    assert not (tmp_path / "out").exists()


def test_more_tokens_than_embedding_rows_are_refused(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(shapes={
        "token_embd.weight": (256, 500), "output.weight": (256, 500)}))  # fmt: skip
    with pytest.raises(ModelError, match="512 tokens -> at most the 500 rows"):
        build(tmp_path / "m.gguf", tmp_path / "m.onnx")


def test_a_refused_model_leaves_no_trace(tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    write_synthetic(source, SyntheticSpec(metadata={"qwen3moe.expert_count": np.uint32(0)}))
    with pytest.raises(ModelError, match="expert_count: 0"):
        build(source, tmp_path / "out" / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_outputs_that_exist_are_kept_without_force(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf")
    (tmp_path / "tokenizer.json").write_text("mine")
    with pytest.raises(OutputError, match=r"already there: tokenizer\.json"):
        build(tmp_path / "m.gguf", tmp_path / "m.onnx")
    assert (tmp_path / "tokenizer.json").read_text() == "mine"
    build(tmp_path / "m.gguf", tmp_path / "m.onnx", BuildOptions(force=True))
    assert (tmp_path / "tokenizer.json").read_text() != "mine"


@pytest.mark.parametrize("name", ["m.onnx", "ferrum.json", "tokenizer.json", "genai_config.json"])
@pytest.mark.parametrize("mode", ["auto", "copy"])
def test_a_source_with_an_outputs_name_is_refused_and_stays(
    tmp_path: Path, name: str, mode: Mode
) -> None:
    """Its hard link would lie where the output is written, and be written through."""
    source = tmp_path / "in" / name
    source.parent.mkdir()
    write_synthetic(source)
    before = source.read_bytes()
    with pytest.raises(OutputError, match=rf"^\[{name}\] two files of the export have this name"):
        build(source, tmp_path / "out" / "m.onnx", BuildOptions(weights=mode, force=True))
    assert source.read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["auto", "copy"])
@pytest.mark.parametrize(
    ("source", "output"),
    [(b"m\\.gguf", b"m.onnx"), (b"m\xff.gguf", b"m.onnx"), (b"m.gguf", b"m\\.onnx"),
     (b"m.gguf", b"m\xff.onnx")],
)  # fmt: skip
def test_a_file_name_that_ferrum_json_cannot_hold_is_refused(
    tmp_path: Path, source: bytes, output: bytes, mode: Mode
) -> None:
    gguf, out = tmp_path / os.fsdecode(source), tmp_path / "out" / os.fsdecode(output)
    write_synthetic(gguf)
    with pytest.raises(OutputError, match="a file's name -> UTF-8 without a backslash") as caught:
        build(gguf, out, BuildOptions(weights=mode))
    assert str(caught.value).isprintable()
    assert not out.parent.exists()


def test_a_source_in_place_needs_such_a_name_too(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m\\.gguf")
    with pytest.raises(OutputError, match="a file's name"):
        build(tmp_path / "m\\.gguf", tmp_path / "m.onnx")


def test_a_model_whose_name_is_not_utf_8_runs(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(metadata={"general.name": b"tiny\xff"}))
    build(tmp_path / "m.gguf", tmp_path / "m.onnx")
    content = json.loads((tmp_path / "ferrum.json").read_bytes())
    assert content["model"]["name"] == "tiny\ufffd"
    assert Artifact.open(tmp_path / "m.onnx").manifest.model.name == "tiny\ufffd"


def test_a_chat_template_goes_with_the_build_that_had_it(tmp_path: Path) -> None:
    def template_of(spec: SyntheticSpec) -> bool:
        write_synthetic(tmp_path / "m.gguf", spec)
        build(tmp_path / "m.gguf", tmp_path / "m.onnx", BuildOptions(force=True))
        return (tmp_path / "chat_template.jinja").exists()

    assert template_of(SyntheticSpec())
    assert not template_of(SyntheticSpec(metadata={"tokenizer.chat_template": None}))
    (tmp_path / "chat_template.jinja").write_text("mine")
    assert template_of(SyntheticSpec(metadata={"tokenizer.chat_template": None}))


def test_the_output_must_be_called_onnx(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in \.onnx"):
        build(tmp_path / "m.gguf", tmp_path / "model")


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf")
    build(tmp_path / "m.gguf", tmp_path / "a.onnx")
    first = (tmp_path / "a.onnx").read_bytes()
    build(tmp_path / "m.gguf", tmp_path / "a.onnx", BuildOptions(force=True))
    assert (tmp_path / "a.onnx").read_bytes() == first
