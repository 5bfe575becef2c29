"""A model of one file or of shards opens as one table, and equals what the gguf package reads."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf_writer import header
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.gguf import GGUF, GGUFError

TINY = SyntheticSpec(layers=1, vocab=300)


def test_tensors_and_metadata_equal_the_gguf_package(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("*.gguf"))
    assert len(paths) == 9
    for path in paths:
        model, reader = GGUF.open(path), GGUFReader(path)
        assert list(model.tensors) == [tensor.name for tensor in reader.tensors]
        for theirs in reader.tensors:
            ours = model.tensors[theirs.name]
            assert ours.path == path
            assert ours.offset == theirs.data_offset
            assert ours.nbytes == theirs.n_bytes
            assert ours.type == theirs.tensor_type
            assert ours.shape == tuple(theirs.shape)
        for key, value in model.metadata.items():
            assert np.array_equal(value, reader.fields[key].contents()), key


def test_read_gives_the_blocks(sample: Path) -> None:
    tensor = GGUF.open(sample).tensors["blk.1.attn_q.weight"]
    theirs = next(t for t in GGUFReader(sample).tensors if t.name == tensor.name)
    assert np.array_equal(tensor.read(), theirs.data.reshape(-1))


def test_a_file_is_described_by_its_size_and_header(sample: Path) -> None:
    model = GGUF.open(sample)
    (file,) = model.files
    assert file.size == sample.stat().st_size
    assert file.header_bytes == min(tensor.offset for tensor in model.tensors.values())
    with sample.open("rb") as raw:
        assert file.sha256 == hashlib.sha256(raw.read(file.header_bytes)).hexdigest()


def test_version_2_reads_like_version_3(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(header({"k": ["a", "b"]}, [], version=2))
    assert GGUF.open(path).metadata == {"k": ["a", "b"]}


def test_alignment_places_the_data(tmp_path: Path) -> None:
    plain, wide = tmp_path / "plain.gguf", tmp_path / "wide.gguf"
    write_synthetic(plain, TINY)
    write_synthetic(wide, SyntheticSpec(layers=1, vocab=300, alignment=4096))
    a, b = GGUF.open(plain), GGUF.open(wide)
    assert b.alignment == 4096
    for name, tensor in b.tensors.items():
        assert tensor.offset % 4096 == 0
        assert np.array_equal(tensor.read(), a.tensors[name].read())


def test_text_that_is_not_utf8_survives_as_surrogates(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(header({"one": b"\xff\x41", "many": ["ok"]}, []).replace(b"ok", b"\xfe\xff"))
    metadata = GGUF.open(path).metadata
    assert metadata["one"].encode("utf-8", "surrogateescape") == b"\xff\x41"
    assert metadata["many"][0].encode("utf-8", "surrogateescape") == b"\xfe\xff"


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return write_synthetic(tmp_path / "model.gguf", SyntheticSpec(layers=1, vocab=300, shards=3))


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_shard_opens_the_whole_model(shards: list[Path], given: int, tmp_path: Path) -> None:
    whole = GGUF.open(write_synthetic(tmp_path / "whole.gguf", TINY)[0])
    model = GGUF.open(shards[given])
    assert model.path == shards[0]
    assert [file.path for file in model.files] == shards
    assert model.metadata["general.architecture"] == "qwen3moe"
    assert list(model.tensors) == list(whole.tensors)
    assert {tensor.path for tensor in model.tensors.values()} == set(shards)


def test_a_missing_shard_is_named(shards: list[Path]) -> None:
    shards[1].unlink()
    with pytest.raises(GGUFError, match=r"^\[model-00002-of-00003\.gguf\] missing: shard 2 of 3"):
        GGUF.open(shards[0])


def test_shards_in_the_wrong_order_are_refused(shards: list[Path], tmp_path: Path) -> None:
    shards[1].rename(tmp_path / "x")
    shards[2].rename(shards[1])
    (tmp_path / "x").rename(shards[2])
    with pytest.raises(GGUFError, match=r"^\[model-00002-of-00003\.gguf\] split\.no 2 -> 1"):
        GGUF.open(shards[0])


def test_a_shard_of_another_split_is_refused(shards: list[Path], tmp_path: Path) -> None:
    other = SyntheticSpec(layers=1, vocab=300, shards=2)
    shutil.copy(write_synthetic(tmp_path / "other.gguf", other)[1], shards[1])
    with pytest.raises(GGUFError, match=r"split\.count 2 -> 3"):
        GGUF.open(shards[0])


def test_a_file_that_is_no_shard_is_refused(shards: list[Path], tmp_path: Path) -> None:
    write_synthetic(shards[2], TINY)
    with pytest.raises(GGUFError, match=r"^\[model-00003-of-00003\.gguf\] split\.no missing -> 2"):
        GGUF.open(shards[0])


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    spec = SyntheticSpec(layers=1, vocab=300, shards=2)
    paths = write_synthetic(tmp_path / "model.gguf", spec)
    raw = paths[1].read_bytes()
    # The second shard's names are those of the layer; give one the embedding's, of equal length.
    assert raw.count(b"blk.0.attn_v.weight") == 1
    first = GGUF.open(paths[0]).tensors
    twin = next(name for name, tensor in first.items() if tensor.path == paths[0] and "blk" in name)
    victim = next(
        name for name, tensor in first.items() if tensor.path == paths[1] and len(name) == len(twin)
    )
    paths[1].write_bytes(raw.replace(victim.encode(), twin.encode()))
    with pytest.raises(GGUFError, match=rf"tensor '{twin}' is also in model-00001-of-00002\.gguf"):
        GGUF.open(paths[0])


def test_a_tensor_count_that_disagrees_is_refused(tmp_path: Path) -> None:
    spec = SyntheticSpec(layers=1, vocab=300, shards=2)
    paths = write_synthetic(tmp_path / "model.gguf", spec)
    key = b"split.tensors.count"
    raw = bytearray(paths[0].read_bytes())
    at = raw.index(key) + len(key) + 4
    raw[at] += 1
    paths[0].write_bytes(raw)
    with pytest.raises(GGUFError, match=r"split\.tensors\.count 16, but the shards hold 15"):
        GGUF.open(paths[0])


def test_a_renamed_shard_is_refused(shards: list[Path], tmp_path: Path) -> None:
    renamed = shards[0].rename(tmp_path / "nice.gguf")
    with pytest.raises(GGUFError, match=r"NAME-00001-of-00003\.gguf; give the shards their names"):
        GGUF.open(renamed)
    again = renamed.rename(tmp_path / "model-00001-of-00004.gguf")
    with pytest.raises(GGUFError, match=r"split\.count is 3, the file name says 4"):
        GGUF.open(again)


def test_split_keys_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(header({"split.count": "two"}, []))
    with pytest.raises(GGUFError, match=r"split\.count is a str -> an integer"):
        GGUF.open(path)


def test_a_path_may_be_text_or_lead_through_a_link(sample: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    os.symlink(sample, link)
    assert GGUF.open(str(link)).files[0].sha256 == GGUF.open(sample).files[0].sha256
