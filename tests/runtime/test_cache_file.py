"""Cached blocks survive a restart; a file of something else, or damaged, changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tiny_export
from hypothesis import given
from hypothesis import strategies as st
from tiny_export import greedy

from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.cache_file import CacheFileError, Stamp, restore_blocks, save_blocks
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams

Open = Callable[..., LLM]
PROMPT = [7, 2, 9, 4] * 6
FIVE = SamplingParams(max_tokens=5, ignore_eos=True)
STAMP: Stamp = {"model": "a", "layers": 2}


class Memory:
    """Caches of a few bytes a block."""

    def __init__(self, blocks: int, block_bytes: int = 3) -> None:
        self.block_bytes = block_bytes
        self.content = np.zeros((blocks, block_bytes), np.uint8)

    def read(self, block: int) -> npt.NDArray[np.uint8]:
        return self.content[block].copy()

    def write(self, block: int, content: npt.NDArray[np.uint8]) -> None:
        self.content[block] = content


def key(i: int) -> bytes:
    return bytes([i]) * 16


def kept(blocks: int, count: int) -> tuple[BlockPool, Memory]:
    """A pool that keeps `count` blocks, block i published under key i and to be taken in order."""
    pool, memory = BlockPool(blocks, 4), Memory(blocks)
    for i in range(count):
        (block,) = pool.take(1)
        memory.content[block] = i
        pool.publish(block, key(i))
    for i in range(count):
        pool.give([pool.find(key(i)) or 0])
    return pool, memory


def held(pool: BlockPool, memory: Memory) -> list[tuple[bytes, bytes]]:
    """What can be found, in the order of being taken."""
    return [(k, memory.content[block].tobytes()) for block, k in pool.published()]


def test_a_warm_prompt_survives_a_restart(tiny_llm: Open, tmp_path: Path) -> None:
    first = tiny_llm()
    before = first.generate(PROMPT, FIVE)[0]
    assert first.save_cache(tmp_path / "cache") == 7
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]
    second = tiny_llm(check_blocks=True)
    assert second.load_cache(str(tmp_path / "cache")) == 7
    after = second.generate(PROMPT, FIVE)[0]
    assert after.token_ids == before.token_ids == greedy(PROMPT, 5)
    assert (before.cached_tokens, after.cached_tokens) == (0, 20)


@pytest.mark.parametrize("kv_dtype", sorted(tiny_export.KV_TYPES))
def test_caches_of_every_type_come_back_bit_by_bit(tmp_path: Path, kv_dtype: str) -> None:
    path = tiny_export.write(tmp_path, kv_dtype=kv_dtype)
    with LLM(path, kernels="reference", threads=1, block_size=4) as llm:
        llm.generate(PROMPT, FIVE)
        pool, caches = llm.session.pool, llm.session.caches
        before = {k: caches.read(block).tobytes() for block, k in pool.published()}
        assert any(any(content) for content in before.values())
        llm.save_cache(tmp_path / "cache")
        llm.engine.reset()
        for block in range(pool.blocks):
            caches.write(block, np.full(caches.block_bytes, 255, np.uint8))
        assert llm.load_cache(tmp_path / "cache") == len(before)
        assert {k: caches.read(block).tobytes() for block, k in pool.published()} == before


@given(count=st.integers(0, 8), blocks=st.integers(1, 8), used=st.integers(0, 8))
def test_what_was_used_last_is_restored_as_far_as_there_is_room(
    tmp_path_factory: pytest.TempPathFactory, count: int, blocks: int, used: int
) -> None:
    path = tmp_path_factory.mktemp("cache") / "cache"
    source, source_memory = kept(8, count)
    assert save_blocks(path, source, source_memory, STAMP) == count
    pool, memory = BlockPool(blocks, 4), Memory(blocks)
    pool.take(min(used, blocks))
    room = pool.unused
    restored = min(count, room)
    assert restore_blocks(path, pool, memory, STAMP) == restored
    assert held(pool, memory) == held(source, source_memory)[count - restored :]
    assert (pool.cached, pool.unused) == (restored, room - restored)


def test_blocks_in_use_are_saved_as_those_used_last(tmp_path: Path) -> None:
    source, memory = kept(6, 4)
    for i in (0, 1):
        source.share(source.find(key(i)) or 0)
    assert save_blocks(tmp_path / "cache", source, memory, STAMP) == 4
    pool, other = BlockPool(6, 4), Memory(6)
    restore_blocks(tmp_path / "cache", pool, other, STAMP)
    assert [k for k, _ in held(pool, other)] == [key(2), key(3), key(1), key(0)]


def test_what_is_there_already_stays_and_is_not_there_twice(tmp_path: Path) -> None:
    source, source_memory = kept(5, 5)
    save_blocks(tmp_path / "cache", source, source_memory, STAMP)
    pool, memory = kept(6, 2)
    assert restore_blocks(tmp_path / "cache", pool, memory, STAMP) == 3
    assert held(pool, memory) == held(source, source_memory)
    assert restore_blocks(tmp_path / "cache", pool, memory, STAMP) == 0


def damaged(path: Path) -> list[tuple[str, bytes]]:
    """Files that are not what they should be, by what is wrong with them."""
    good = path.read_bytes()
    line, rest = good.split(b"\n", 1)
    header = json.loads(line)

    def with_header(**changes: object) -> bytes:
        return json.dumps({**header, **changes}).encode() + b"\n" + rest

    flipped = bytearray(good)
    flipped[len(line) + 40] ^= 1
    digest = bytearray(good)
    digest[len(line) + 1] ^= 1
    return [
        ("no file of cached blocks", b""),
        ("no file of cached blocks", bytes(range(256)) * 999),
        ("no file of cached blocks", b"\x00" * 100_000),
        ("no file of cached blocks", b"[1]\n"),
        ("format: Input should be 'ferrum cache'", with_header(format="other")),
        ("version: Input should be 1", with_header(version=2)),
        ("blocks: Input should be a valid integer", with_header(blocks="4")),
        ("blocks: Input should be greater", with_header(blocks=-1)),
        ("colour: Extra inputs", with_header(colour="red")),
        ("stamp: Field required", json.dumps({"blocks": 1, "block_bytes": 3}).encode() + b"\n"),
        ("its blocks are of layers None -> 2", with_header(stamp={"model": "a", "x": 1})),
        ("its blocks are of more 1 -> None", with_header(stamp={**STAMP, "more": 1})),
        ("its blocks are of model 'b' -> 'a'", with_header(stamp={"model": "b", "layers": 2})),
        ("blocks of 7 bytes -> 3", with_header(block_bytes=7)),
        ("as its header says", good[:-1]),
        ("as its header says", good + b"x"),
        ("as its header says", good[: len(line) + 20]),
        ("as its header says", with_header(blocks=10**15)),
        ("it was damaged", bytes(flipped)),
        ("it was damaged", bytes(digest)),
        ("it was damaged", good[:-1] + bytes([good[-1] ^ 1])),
    ]


def test_a_damaged_or_strange_file_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    source, source_memory = kept(5, 5)
    path = tmp_path / "cache"
    save_blocks(path, source, source_memory, STAMP)
    pool, memory = kept(8, 2)
    before = held(pool, memory)
    for sentence, content in damaged(path):
        path.write_bytes(content)
        with pytest.raises(CacheFileError) as caught:
            restore_blocks(path, pool, memory, STAMP)
        message = str(caught.value)
        assert sentence in message
        assert message.startswith(f"[{path}] ")
        assert "\n" not in message
        assert len(message) < 400
        assert held(pool, memory) == before
        assert (pool.cached, pool.unused) == (2, 6)
        pool.check({})


@given(cut=st.integers(0, 400), flip=st.integers(0, 400), byte=st.integers(1, 255))
def test_whatever_is_spoilt_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("cache") / "cache"
    save_blocks(path, *kept(5, 5), STAMP)
    content = bytearray(path.read_bytes())
    content[flip % len(content)] ^= byte
    path.write_bytes(content[: len(content) - cut % len(content)])
    pool, memory = BlockPool(8, 4), Memory(8)
    with pytest.raises(CacheFileError):
        restore_blocks(path, pool, memory, STAMP)
    assert pool.unused == 8


def test_a_file_that_cannot_be_read_or_written_is_one_line(tmp_path: Path) -> None:
    pool, memory = kept(3, 2)
    with pytest.raises(CacheFileError, match=r"cannot be read: No such file"):
        restore_blocks(tmp_path / "none", pool, memory, STAMP)
    with pytest.raises(CacheFileError, match=r"cannot be read: Is a directory"):
        restore_blocks(tmp_path, pool, memory, STAMP)
    with pytest.raises(CacheFileError, match=r"cannot be written: No such file"):
        save_blocks(tmp_path / "none" / "cache", pool, memory, STAMP)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CacheFileError, match=r"cannot be written: Is a directory"):
        save_blocks(tmp_path / "folder", pool, memory, STAMP)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_what_can_be_no_files_name_is_told(tiny_llm: Open) -> None:
    llm = tiny_llm()
    for use in (llm.save_cache, llm.load_cache):
        with pytest.raises(CacheFileError, match=r"null byte|no file's name"):
            use("a\0b")


def test_no_file_of_the_model_is_written_over(tiny_llm: Open, tmp_path: Path) -> None:
    llm = tiny_llm()
    llm.generate(PROMPT, FIVE)
    for file in llm.artifact.files:
        before = file.read_bytes()
        with pytest.raises(CacheFileError, match=r"itself -> another file"):
            llm.save_cache(file)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").hardlink_to(file)
        with pytest.raises(CacheFileError, match=r"itself -> another file"):
            llm.save_cache(tmp_path / "link")
        assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["", ".", "a\0b"])
def test_a_name_that_is_no_files_is_one_line(tiny_llm: Open, name: str) -> None:
    with pytest.raises(CacheFileError) as refused:
        tiny_llm().save_cache(name)
    assert "\n" not in str(refused.value)


def test_a_link_stays_one_and_its_target_is_written(tiny_llm: Open, tmp_path: Path) -> None:
    llm = tiny_llm()
    llm.generate(PROMPT, FIVE)
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")
    saved = llm.save_cache(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert tiny_llm().load_cache(tmp_path / "target") == saved > 0


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    save_blocks(path, *kept(3, 1), STAMP)
    before = path.read_bytes()
    pool, memory = kept(5, 5)

    def interrupted(block: int) -> npt.NDArray[np.uint8]:
        raise KeyboardInterrupt

    memory.read = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        save_blocks(path, pool, memory, STAMP)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_of_another_model_or_other_settings_is_refused(
    tiny_llm: Open, tmp_path: Path
) -> None:
    llm = tiny_llm()
    llm.generate(PROMPT, FIVE)
    llm.save_cache(tmp_path / "cache")
    for settings, sentence in (
        ({"block_size": 5}, "its blocks are of block_size 4 -> 5"),
        ({"arithmetic": "exact"}, "its blocks are of arithmetic 'fast' -> 'exact'"),
    ):
        other = tiny_llm(**settings)
        with pytest.raises(CacheFileError, match=sentence):
            other.load_cache(tmp_path / "cache")
        assert other.session.pool.cached == 0
    off = tiny_llm(prefix_reuse=False)
    for call in (off.save_cache, off.load_cache):
        with pytest.raises(CacheFileError, match="prefix_reuse, got False"):
            call(tmp_path / "cache")
