"""--layout cuda: what is re-laid, where it lies, and that such a build is as whole as any other."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder import layout
from ferrum.builder.build import BuildOptions, build
from ferrum.builder.cli import main
from ferrum.builder.gguf import GGUF, Tensor
from ferrum.builder.outputs import OutputError
from ferrum.builder.survey import survey
from ferrum.builder.weights import WeightsError
from ferrum.custom_ops.planes import to_planes
from ferrum.custom_ops.quants import QUANTS
from ferrum.runtime.artifact import Artifact, ArtifactError

Q6_K = 14
CUDA = BuildOptions(layout="cuda", progress=False)
FILE = BuildOptions(progress=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A Q4_K_M model: its head, some values and some `down` are Q6_K."""
    folder = tmp_path / "in"
    folder.mkdir()
    return write_synthetic(folder / "m.gguf", SyntheticSpec(mixture="Q4_K_M"))[0]


def references(output: Path) -> dict[str, tuple[str, int, int]]:
    """Initializer -> (file, offset, length) of its external data."""
    found = {}
    for tensor in onnx.load(output, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            offset, length = int(entries["offset"]), int(entries["length"])
            found[tensor.name] = (entries["location"], offset, length)
    return found


def relaid_names(output: Path) -> set[str]:
    return {name for name, (file, _, _) in references(output).items() if file == "m.planes"}


def as_matrices(tensor: Tensor, content: np.ndarray) -> np.ndarray:
    return content.reshape(*tensor.shape[:0:-1], -1)


def test_the_bits_of_every_matrix_of_such_a_type_are_there_in_planes(
    model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "m.onnx"
    result = build(model, output, CUDA)
    stored, found = GGUF.open(model).tensors, references(output)
    odd = {name for name, t in stored.items() if QUANTS.by_id(t.type).planes}
    assert relaid_names(output) == odd
    assert "output.weight" in odd
    whole, end = hashlib.sha256(), 0
    for name in [name for name in stored if name in odd]:
        tensor, (_, offset, length) = stored[name], found[name]
        assert offset % 4096 == 0
        assert offset >= end
        end = offset + length
        blocks = tensor.read()
        whole.update(blocks.data)
        planes = np.fromfile(output.with_suffix(".planes"), np.uint8, length, offset=offset)
        wanted = to_planes(QUANTS.by_id(tensor.type), as_matrices(tensor, blocks))
        np.testing.assert_array_equal(as_matrices(tensor, planes), wanted)
    assert output.with_suffix(".planes").stat().st_size == end == result.relaid_bytes
    with output.with_suffix(".planes").open("rb") as file:
        header = json.loads(file.readline())
    assert header["sha256"] == whole.hexdigest()
    assert header["tensors"] == dict.fromkeys(odd, "Q6_K_planes")


def test_all_else_stays_where_the_gguf_has_it(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "m.onnx"
    build(model, output, CUDA)
    relaid = relaid_names(output)
    stored = GGUF.open(model).tensors
    for name, place in references(output).items():
        if name not in relaid:
            assert place == ("m.gguf", stored[name].offset, stored[name].nbytes)
    assert (output.parent / "m.gguf").samefile(model)


def test_tensors_of_all_shards_are_relaid_into_one_file(tmp_path: Path) -> None:
    files = write_synthetic(tmp_path / "m.gguf", SyntheticSpec(mixture="Q8_0", shards=3))
    build(files[0], tmp_path / "m.onnx", CUDA)
    stored = GGUF.open(files[0]).tensors
    odd = {n for n, t in stored.items() if QUANTS.by_id(t.type).planes} - {"token_embd.weight"}
    assert relaid_names(tmp_path / "m.onnx") == odd


def test_an_embedding_stays_and_with_it_a_head_that_is_tied_to_it(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(mixture="Q8_0", tied=True))
    build(tmp_path / "m.gguf", tmp_path / "m.onnx", CUDA)
    assert "token_embd.weight" not in relaid_names(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    (head,) = (node for node in model.graph.node if node.name == "lm_head")
    assert head.attribute[0].i == QUANTS.by_name("Q8_0").id


def test_experts_that_stay_on_the_cpu_stay_in_the_file(model: Path, tmp_path: Path) -> None:
    def experts(options: BuildOptions) -> set[str]:
        build(model, tmp_path / "out" / "m.onnx", options)
        return {name for name in relaid_names(tmp_path / "out" / "m.onnx") if "_exps" in name}

    assert experts(CUDA) == {"blk.1.ffn_down_exps.weight"}
    assert experts(BuildOptions(layout="cuda", cpu_experts=2, force=True, progress=False)) == set()


def test_a_model_without_such_types_is_built_as_ever_and_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = SyntheticSpec(types={"*": "Q4_K", "*_norm.weight": "F32"})
    write_synthetic(tmp_path / "m.gguf", spec)
    result = build(tmp_path / "m.gguf", tmp_path / "m.onnx", CUDA)
    assert result.relaid_bytes == 0
    other = [str(tmp_path / "m.gguf"), str(tmp_path / "other" / "m.onnx"), "--layout", "cuda"]
    assert main(other) == 0
    assert "--layout cuda re-lays none of these types" in capsys.readouterr().out
    assert not (tmp_path / "m.planes").exists()
    assert set(result.files) == {path.name for path in tmp_path.iterdir()} - {"m.gguf", "other"}


def test_the_default_writes_none(model: Path, tmp_path: Path) -> None:
    build(model, tmp_path / "out" / "m.onnx", FILE)
    assert not (tmp_path / "out" / "m.planes").exists()
    content = json.loads((tmp_path / "out" / "ferrum.json").read_text())
    assert [record["file"] for record in content["source"]["files"]] == ["m.gguf"]


def test_the_manifest_names_the_file_and_the_runtime_notices_another(
    model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "m.onnx"
    build(model, output, CUDA)
    artifact = Artifact.open(output)
    assert [path.name for path in artifact.weights] == ["m.gguf", "m.planes"]
    other = write_synthetic(tmp_path / "o.gguf", SyntheticSpec(mixture="Q4_K_M", seed=9))[0]
    build(other, tmp_path / "other" / "m.onnx", CUDA)
    ours, theirs = output.with_suffix(".planes"), tmp_path / "other" / "m.planes"
    assert ours.stat().st_size == theirs.stat().st_size
    shutil.copyfile(theirs, ours)
    with pytest.raises(ArtifactError, match=r"m\.planes\] another header than the graph was writ"):
        Artifact.open(output)
    ours.unlink()
    with pytest.raises(ArtifactError, match=r"m\.planes\] cannot be read: No such file"):
        Artifact.open(output)


def test_a_build_that_fails_leaves_the_old_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out" / "m.onnx"
    build(model, output, CUDA)
    before = {path.name: path.read_bytes() for path in output.parent.iterdir()}
    with pytest.raises(OutputError, match=r"already there: m\.planes, "):
        build(model, output, CUDA)

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", stop)
    with pytest.raises(KeyboardInterrupt):
        build(model, output, BuildOptions(layout="cuda", force=True, progress=False))
    assert {path.name: path.read_bytes() for path in output.parent.iterdir()} == before


def test_the_file_goes_with_the_build_that_needed_it(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "m.onnx"
    build(model, output, CUDA)
    other = output.with_name("other.planes")
    shutil.copyfile(output.with_suffix(".planes"), other)
    build(model, output, replace(FILE, force=True))
    assert not output.with_suffix(".planes").exists()
    assert other.exists()
    Artifact.open(output)


def test_a_file_of_that_name_that_no_build_made_stays(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "m.onnx"
    build(model, output, FILE)
    output.with_suffix(".planes").write_text("mine")
    build(model, output, replace(FILE, force=True))
    assert output.with_suffix(".planes").read_text() == "mine"


def test_a_full_disk_is_said_before_and_while(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(WeightsError, match=r"\[m\.planes\] the re-laid weights cannot be writ"):
            build(model, tmp_path / "out" / "m.onnx", CUDA)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1 << 24))
    with pytest.raises(WeightsError, match=r"re-laid weights need .* are free -> --layout file"):
        build(model, tmp_path / "out" / "m.onnx", CUDA)
    assert not (tmp_path / "out").exists()


def test_weights_begin_behind_the_header_whatever_its_length(model: Path) -> None:
    tensor = next(t for t in GGUF.open(model).tensors.values() if t.type == Q6_K)
    shortest = len(layout._header({"": tensor}, "").rstrip())
    for length in range(4090, 4102):
        header = layout._header({"x" * (length - shortest): tensor}, "")
        assert len(header.rstrip()) == length
        assert header.endswith(b"\n")
        assert len(header) == (4096 if length < 4096 else 8192)


def test_weights_are_whole_where_writes_take_a_part(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(model, tmp_path / "whole" / "m.onnx", CUDA)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:5000], at))
    build(model, tmp_path / "parts" / "m.onnx", CUDA)
    whole, parts = (tmp_path / name / "m.planes" for name in ("whole", "parts"))
    assert parts.read_bytes() == whole.read_bytes()


def test_a_file_cut_off_while_it_is_re_laid_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = layout._write_tensor

    def cut(source: Tensor, file: int, at: int) -> Iterator[layout.Bytes]:
        os.truncate(model, source.offset + 10)
        return write(source, file, at)

    monkeypatch.setattr(layout, "_write_tensor", cut)
    with pytest.raises(WeightsError, match=r"^\[m\.gguf\] ends inside "):
        build(model, tmp_path / "out" / "m.onnx", BuildOptions(layout="cuda", weights="link",
                                                               progress=False))  # fmt: skip


def test_a_model_file_that_has_the_name_is_not_overwritten(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.planes", SyntheticSpec(mixture="Q8_0"))
    with pytest.raises(WeightsError, match=r"\[m\.planes\] a file of the model has this name"):
        build(tmp_path / "m.planes", tmp_path / "m.onnx", CUDA)


def test_the_command_says_what_it_re_laid(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(model), str(tmp_path / "out" / "m.onnx"), "--layout", "cuda"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "Q6_K_planes x" in said
    assert "MB of the weights re-laid beside the graph" in said
    assert main([*arguments, "--force", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["relaid_bytes"] == (tmp_path / "out" / "m.planes").stat().st_size
    assert "m.planes" in answer["files"]
    assert "Q6_K_planes" in answer["types"]


def test_inspect_shows_the_bytes_of_each_layout(model: Path, tmp_path: Path) -> None:
    build(model, tmp_path / "out" / "m.onnx", CUDA)
    found, before = survey(tmp_path / "out" / "m.onnx"), survey(model)
    sizes, old = ({row.name: row.bytes for row in one.types} for one in (found, before))
    assert sizes["Q6_K_planes"] == old["Q6_K"]
    assert "Q6_K" not in sizes
    assert [file["file"] for file in found.files] == ["m.gguf", "m.planes"]
    assert found.memory == before.memory


def test_a_bar_is_drawn_on_a_terminal_only(model: Path, tmp_path: Path) -> None:
    script = "import sys; from ferrum.builder.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, model, tmp_path / "m.onnx", "--layout", "cuda"]
    terminal, inner = pty.openpty()
    subprocess.run(
        command, stderr=inner, check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    assert b"re-laying weights" in os.read(terminal, 10_000)
    piped = subprocess.run([*command, "--force"], capture_output=True, check=True)
    assert piped.stderr == b""
