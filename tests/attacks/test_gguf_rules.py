"""Each rule of the GGUF format, broken once: one clear line that says what is wrong."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_writer import ARRAY, STRING, TensorInfo, header, string

from ferrum.builder.gguf import GGUF, GGUFError

F32, Q4_K = 0, 12
INFO = TensorInfo("a.weight", (32,), F32, 0)
DATA = bytes(128)


def file(
    metadata: Any = (("k", 1),),
    tensors: tuple[TensorInfo, ...] = (INFO,),
    data: bytes = DATA,
    **options: int,
) -> bytes:
    return header(metadata, tensors, **options) + data


def info(name: str = "a.weight", shape: tuple[int, ...] = (32,), **rest: int) -> TensorInfo:
    return TensorInfo(name, shape, rest.get("type", F32), rest.get("offset", 0))


def one_value(raw: bytes) -> bytes:
    """A file of one key "k" whose typed value is given raw, and no tensors."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + raw


def counts(tensors: int, pairs: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + bytes(64)


def nested(depth: int) -> bytes:
    return struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * depth + bytes(12)


HUGE = (1 << 64) - 1
ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not a GGUF file: 0 bytes"),
    "short": (lambda: b"GGUF\3\0\0\0", "not a GGUF file: 8 bytes"),
    "magic": (lambda: b"GGML" + file()[4:], "not a GGUF file: starts with b'GGML'"),
    "html": (lambda: b"<!DOCTYPE html><html>...</html>", "starts with b'<!DO'"),
    "version_1": (lambda: file(version=1), "GGUF version 1 -> 2 or 3"),
    "version_4": (lambda: file(version=4), "GGUF version 4 -> 2 or 3"),
    "big_endian": (lambda: file(version=3 << 24), "big-endian"),
    "tensor_count": (lambda: counts(HUGE, 0), "18446744073709551615 tensors"),
    "kv_count": (lambda: counts(0, HUGE), "18446744073709551615 key-value pairs"),
    "kv_count_beyond_file": (lambda: counts(0, 6), "6 key-value pairs -> at most 4"),
    "key_length": (
        lambda: b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, HUGE) + bytes(64),
        "key 0: 18446744073709551615 bytes wanted",
    ),
    "key_utf8": (lambda: file(metadata=((b"\xff\xfe", 1),)), "key 0: not UTF-8"),
    "key_twice": (lambda: file(metadata=(("k", 1), ("k", 2))), "key 'k' is there twice"),
    "value_type": (lambda: one_value(struct.pack("<IQ", 13, 0)), "unknown value type 13"),
    "element_type": (
        lambda: one_value(struct.pack("<IIQ", ARRAY, 77, 0)),
        "unknown element type 77",
    ),
    "bool": (lambda: one_value(struct.pack("<IB", 7, 2)), "bool of 2 -> 0 or 1"),
    "bool_array": (
        lambda: one_value(struct.pack("<IIQ", ARRAY, 7, 2) + b"\1\5"),
        "bool of 5 -> 0 or 1",
    ),
    "string_length": (
        lambda: one_value(struct.pack("<IQ", STRING, 1 << 40) + b"text"),
        "value of 'k': 1099511627776 bytes wanted, 4 left",
    ),
    "array_length": (
        lambda: one_value(struct.pack("<IIQ", ARRAY, 5, 1 << 62) + bytes(32)),
        "4611686018427387904 elements in value of 'k' -> at most 8",
    ),
    "strings_length": (
        lambda: one_value(struct.pack("<IIQ", ARRAY, STRING, 5) + bytes(32)),
        "5 strings in value of 'k' -> at most 4",
    ),
    "string_in_array": (
        lambda: one_value(struct.pack("<IIQQ", ARRAY, STRING, 2, 100) + bytes(32)),
        "value of 'k': 100 bytes wanted, 32 left",
    ),
    "strings_end_early": (
        lambda: one_value(struct.pack("<IIQQ", ARRAY, STRING, 3, 20) + bytes(21)),
        "value of 'k': 8 bytes wanted, 1 left",
    ),
    "arrays_length": (
        lambda: one_value(struct.pack("<IIQ", ARRAY, ARRAY, 1 << 50) + bytes(32)),
        "arrays in value of 'k' -> at most 2",
    ),
    "nesting": (lambda: one_value(nested(5)), "nested deeper than 4"),
    "alignment_0": (lambda: file(metadata={"general.alignment": 0}), "general.alignment 0"),
    "alignment_48": (lambda: file(metadata={"general.alignment": 48}), "-> a power of two"),
    "alignment_huge": (
        lambda: file(metadata={"general.alignment": 1 << 31}),
        "general.alignment 2147483648",
    ),
    "alignment_text": (
        lambda: file(metadata={"general.alignment": "32"}),
        "general.alignment str -> a power of two",
    ),
    "name_utf8": (
        lambda: file().replace(b"a.weight", b"a.\xffeight"),
        "name of tensor 0: not UTF-8",
    ),
    "name_twice": (
        lambda: file(tensors=(INFO, info(offset=128)), data=bytes(256)),
        "tensor 'a.weight' is there twice",
    ),
    "no_dimension": (lambda: file(tensors=(info(shape=()),)), "0 dimensions -> 1 to 4"),
    "five_dimensions": (lambda: file(tensors=(info(shape=(32, 1, 1, 1, 1)),)), "5 dimensions"),
    "dimension_0": (lambda: file(tensors=(info(shape=(32, 0)),)), "has a dimension of 0"),
    "product": (
        lambda: file(tensors=(info(shape=(1 << 40, 1 << 40)),)),
        "holds 1208925819614629174706176 values",
    ),
    "dimension_huge": (lambda: file(tensors=(info(shape=(HUGE,)),)), "values, more than any file"),
    "tensor_type": (lambda: file(tensors=(info(type=4),)), "unknown tensor type 4"),
    "tensor_type_huge": (lambda: file(tensors=(info(type=1 << 31),)), "type 2147483648"),
    "row": (
        lambda: file(tensors=(info(shape=(2050, 2), type=Q4_K),)),
        "row of 2050 values is not a multiple of Q4_K's block of 256",
    ),
    "unaligned": (
        lambda: file(tensors=(info(offset=4),), data=bytes(256)),
        "offset 4 -> a multiple of the alignment 32",
    ),
    "past_the_end": (lambda: file(data=DATA[:-1]), "the file is truncated"),
    "offset_huge": (lambda: file(tensors=(info(offset=HUGE - 31),)), "its data ends at byte"),
    "overlap": (
        lambda: file(tensors=(INFO, info("b.weight", offset=96)), data=bytes(256)),
        "tensors 'a.weight' and 'b.weight' overlap",
    ),
    "same_place": (
        lambda: file(tensors=(INFO, info("b.weight"))),
        "tensors 'a.weight' and 'b.weight' overlap",
    ),
    "long_name": (
        lambda: file(tensors=(info("n\n" * 5000, (7,), type=Q4_K),)),
        "row of 7 values",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_broken_rule_gives_one_line_that_names_it(attack: str, tmp_path: Path) -> None:
    make, wanted = ATTACKS[attack]
    path = tmp_path / "model.gguf"
    path.write_bytes(make())
    with pytest.raises(GGUFError) as error:
        GGUF.open(path)
    message = str(error.value)
    assert message.startswith("[model.gguf] ")
    assert wanted in message
    assert "\n" not in message
    assert len(message) < 300


def test_the_unbroken_file_opens(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(file())
    model = GGUF.open(path)
    assert model.metadata == {"k": 1}
    assert model.tensors["a.weight"].read().tobytes() == DATA


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    metadata = {"s": "text", "a": ["x", "yz"], "n": np.arange(5, dtype=np.int32), "f": 1.5}
    whole = file(metadata, (INFO, info("b.weight", (256,), type=Q4_K, offset=128)), bytes(272))
    path = tmp_path / "model.gguf"
    path.write_bytes(whole)
    GGUF.open(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(GGUFError, match=r"^\[model\.gguf\] .*(left|file|bytes)"):
            GGUF.open(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "device", "pipe"])
def test_what_is_not_a_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = {"folder": tmp_path, "device": Path("/dev/zero")}.get(kind, tmp_path / kind)
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(GGUFError, match=r"^\[.*\] (cannot be read: |not a regular file)"):
        GGUF.open(path)
