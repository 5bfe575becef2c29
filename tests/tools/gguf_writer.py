"""Write GGUF bytes: any header, right or (for the attacks) deliberately wrong in one place."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Value type ids of the format.
UINT32, FLOAT32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
_NUMPY_TYPES = {
    "u1": 0, "i1": 1, "u2": 2, "i2": 3, "u4": 4, "i4": 5, "f4": 6, "b1": 7, "u8": 10, "i8": 11,
    "f8": 12,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One row of the tensor table; `offset` counts from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]  # ggml order, contiguous dimension first
    type: int
    offset: int


def string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(item: Any) -> bytes:
    """A typed value: Python ints become UINT32, floats FLOAT32; numpy values keep their type."""
    if isinstance(item, np.generic):
        return struct.pack("<I", _NUMPY_TYPES[item.dtype.str[1:]]) + item.tobytes()
    if isinstance(item, bool):
        return struct.pack("<I?", BOOL, item)
    if isinstance(item, str | bytes):
        return struct.pack("<I", STRING) + string(item)
    if isinstance(item, int):
        return struct.pack("<II", UINT32, item)
    if isinstance(item, float):
        return struct.pack("<If", FLOAT32, item)
    if isinstance(item, np.ndarray):
        head = struct.pack("<IIQ", ARRAY, _NUMPY_TYPES[item.dtype.str[1:]], len(item))
        return head + item.tobytes()
    if isinstance(item, Sequence):
        head = struct.pack("<IIQ", ARRAY, STRING, len(item))
        return head + b"".join(string(text) for text in item)
    raise TypeError(f"no GGUF type for {type(item).__name__}")


def header(
    metadata: Mapping[str, Any] | Iterable[tuple[str | bytes, Any]],
    tensors: Sequence[TensorInfo],
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """Everything up to the tensor data, padded to `alignment`.

    `metadata` as pairs may hold a key twice; "general.alignment" is the caller's to add.
    """
    pairs = list(metadata.items() if isinstance(metadata, Mapping) else metadata)
    parts = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(pairs))]
    parts += [string(key) + value(item) for key, item in pairs]
    for tensor in tensors:
        rank = len(tensor.shape)
        parts.append(string(tensor.name) + struct.pack(f"<I{rank}Q", rank, *tensor.shape))
        parts.append(struct.pack("<IQ", tensor.type, tensor.offset))
    return pad(b"".join(parts), alignment)


def pad(raw: bytes, alignment: int) -> bytes:
    return raw + bytes(-len(raw) % alignment)
