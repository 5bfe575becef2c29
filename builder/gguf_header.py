"""One GGUF file's header: key-values and tensor table, every number checked before it is used.

A GGUF header is a list of lengths that the file itself supplies, so nothing here allocates, slices
or multiplies by a number before comparing it with the bytes that are left. Format: the GGUF
specification of ggml (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import hashlib
import mmap
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ferrum.custom_ops.quants import QUANTS

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_STRING, _ARRAY, _BOOL = 8, 9, 7
# Value type id -> little-endian numpy type. Bool, string and array are handled by name.
_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4",
    6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_MIN_KV_BYTES = 8 + 4 + 1  # key length, value type, one byte of value
_MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8  # name length, rank, one dimension, type, offset
_MAX_DIMS = 4
_MAX_ARRAY_DEPTH = 4
_MAX_ALIGNMENT = 1 << 20
# The largest real value, a vocabulary's merges, is a few MB. A corrupt length in a file of many GB
# would pass the check against the bytes left, so one value is bounded by itself too.
_MAX_VALUE_BYTES = 256 << 20


class GGUFError(ValueError):
    """A GGUF file that cannot be used; the message is one line: `[file] what, got -> wanted`."""


@dataclass(frozen=True)
class Tensor:
    """Where one tensor's blocks lie.

    `shape` is in ggml's order, the contiguous dimension first; `type` is the ggml type id;
    `offset` counts bytes from the start of `path`, `nbytes` is the length of the blocks.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    path: Path
    offset: int
    nbytes: int

    def read(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The raw blocks as uint8[nbytes], read from the file."""
        return np.fromfile(self.path, dtype=np.uint8, count=self.nbytes, offset=self.offset)


@dataclass(frozen=True)
class Header:
    """What one file says about itself, before any cross-check with other shards."""

    path: Path
    size: int
    header_bytes: int  # from the magic to the start of the tensor data
    sha256: str  # of those bytes
    version: int
    alignment: int
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def quoted(name: str) -> str:
    """A name from a file, made safe for a one-line message: escaped and cut at 80 characters."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


def read_header(path: Path) -> Header:
    """Parse and check one file; raises `GGUFError` for anything that is not a sound GGUF."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # asked before opening, which would wait on a pipe
            raise GGUFError(f"[{path.name}] not a regular file")
        if status.st_size < 24:
            raise GGUFError(
                f"[{path.name}] not a GGUF file: {status.st_size} bytes -> at least 24 bytes"
            )
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), status.st_size, access=mmap.ACCESS_READ) as data,
        ):
            return _Parser(path, data).header()
    except OSError as error:
        raise GGUFError(f"[{path.name}] cannot be read: {error.strerror or error}") from error


class _Parser:
    """A cursor over the mapped file; every read names what it reads, for the error message."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.size, self.at = path, data, len(data), 0

    def header(self) -> Header:
        version = self.version()
        tensor_count = self.u64("tensor count")
        kv_count = self.u64("key-value count")
        self.fits(kv_count, _MIN_KV_BYTES, "key-value pairs")
        self.fits(tensor_count, _MIN_TENSOR_BYTES, "tensors")
        metadata: dict[str, Any] = {}
        for index in range(kv_count):
            key = self.name(f"key {index}")
            if key in metadata:
                self.fail(f"key {quoted(key)} is there twice")
            metadata[key] = self.value(self.u32("value type"), f"value of {quoted(key)}", 0)
        alignment = self.alignment(metadata.get("general.alignment", 32))
        infos = self.tensor_infos(tensor_count)
        data_start = -(-self.at // alignment) * alignment
        tensors = self.place(infos, data_start, alignment)
        length = min(data_start, self.size)
        with memoryview(self.data) as view:
            digest = hashlib.sha256(view[:length]).hexdigest()
        return Header(self.path, self.size, length, digest, version, alignment, metadata, tensors)

    def version(self) -> int:
        magic = self.take(4, "magic")
        if magic != b"GGUF":
            self.fail(f"not a GGUF file: starts with {magic!r} -> {b'GGUF'!r}")
        raw = self.take(4, "version")
        version = int.from_bytes(raw, "little")
        if version not in (2, 3) and int.from_bytes(raw, "big") in (1, 2, 3):
            self.fail("big-endian GGUF -> little-endian; convert it with gguf-convert-endian")
        if version not in (2, 3):
            self.fail(f"GGUF version {version} -> 2 or 3; convert the model again")
        return version

    def tensor_infos(self, count: int) -> list[tuple[str, tuple[int, ...], int, int]]:
        """(name, shape, type, offset in the data section) of each tensor, in file order."""
        infos = []
        names: set[str] = set()
        for index in range(count):
            name = self.name(f"name of tensor {index}")
            if name in names:
                self.fail(f"tensor {quoted(name)} is there twice")
            names.add(name)
            what = f"tensor {quoted(name)}"
            rank = self.u32(f"rank of {what}")
            if not 1 <= rank <= _MAX_DIMS:
                self.fail(f"{what}: {rank} dimensions -> 1 to {_MAX_DIMS}")
            shape = tuple(self.u64(f"shape of {what}") for _ in range(rank))
            if 0 in shape:
                self.fail(f"{what}: shape {list(shape)} has a dimension of 0")
            infos.append((name, shape, self.u32(f"type of {what}"), self.u64(f"offset of {what}")))
        return infos

    def place(
        self, infos: list[tuple[str, tuple[int, ...], int, int]], start: int, alignment: int
    ) -> dict[str, Tensor]:
        tensors = {}
        for name, shape, type_id, offset in infos:
            what = f"tensor {quoted(name)}"
            nbytes = self.blocks_bytes(what, shape, type_id)
            if offset % alignment:
                self.fail(f"{what}: offset {offset} -> a multiple of the alignment {alignment}")
            end = start + offset + nbytes
            if end > self.size:
                self.fail(
                    f"{what}: its data ends at byte {end}, the file at {self.size}; "
                    "the file is truncated, fetch it again"
                )
            tensors[name] = Tensor(name, shape, type_id, self.path, start + offset, nbytes)
        last: Tensor | None = None
        for tensor in sorted(tensors.values(), key=lambda t: t.offset):
            if last is not None and tensor.offset < last.offset + last.nbytes:
                self.fail(f"tensors {quoted(last.name)} and {quoted(tensor.name)} overlap")
            last = tensor
        return tensors

    def blocks_bytes(self, what: str, shape: tuple[int, ...], type_id: int) -> int:
        if type_id not in QUANTS:
            self.fail(f"{what}: unknown tensor type {type_id}")
        quant = QUANTS.by_id(type_id)
        if shape[0] % quant.block:
            self.fail(
                f"{what}: row of {shape[0]} values is not a multiple of "
                f"{quant.name}'s block of {quant.block}"
            )
        values = 1
        for dim in shape:
            values *= dim
        # Python's integers do not overflow, but the int64 offsets of every reader after us would.
        if values >= 1 << 62:
            self.fail(f"{what}: shape {list(shape)} holds {values} values, more than any file")
        return int(values // quant.block * quant.bytes)

    def alignment(self, value: Any) -> int:
        valid = isinstance(value, int) and not isinstance(value, bool)
        if not valid or not 0 < value <= _MAX_ALIGNMENT or value & (value - 1):
            shown = value if valid else type(value).__name__
            self.fail(f"general.alignment {shown} -> a power of two up to {_MAX_ALIGNMENT}")
        return int(value)

    def value(self, type_id: int, what: str, depth: int) -> Any:
        if type_id == _STRING:
            return self.take(self.length(what), what).decode("utf-8", "surrogateescape")
        if type_id == _ARRAY:
            return self.array(what, depth)
        if type_id == _BOOL:
            return self.boolean(self.take(1, what), what)
        if type_id in _NUMBERS:
            dtype = np.dtype(_NUMBERS[type_id])
            return np.frombuffer(self.take(dtype.itemsize, what), dtype)[0].item()
        return self.fail(f"{what}: unknown value type {type_id}")

    def array(self, what: str, depth: int) -> Any:
        if depth >= _MAX_ARRAY_DEPTH:
            self.fail(f"{what}: arrays nested deeper than {_MAX_ARRAY_DEPTH}")
        type_id = self.u32(f"element type of {what}")
        count = self.u64(f"length of {what}")
        if type_id == _STRING:
            return self.strings(count, what)
        if type_id == _ARRAY:
            self.fits(count, 12, f"arrays in {what}")
            return [self.array(what, depth + 1) for _ in range(count)]
        if type_id != _BOOL and type_id not in _NUMBERS:
            self.fail(f"{what}: unknown element type {type_id}")
        dtype = np.dtype(_NUMBERS.get(type_id, "<u1"))
        self.fits(count, dtype.itemsize, f"elements in {what}")
        raw = self.take(count * dtype.itemsize, what)
        if type_id == _BOOL:
            self.boolean(raw, what)
            dtype = np.dtype(bool)
        return np.frombuffer(raw, dtype)

    def strings(self, count: int, what: str) -> list[str]:
        # A vocabulary holds some 300,000 strings, so this loop works on locals.
        self.fits(count, 8, f"strings in {what}")
        data, size, at, unpack = self.data, self.size, self.at, _U64.unpack_from
        found: list[str] = []
        for _ in range(count):
            start = at + 8
            if start > size:
                self.truncated(what, 8, size - at)
            at = start + unpack(data, at)[0]
            if at > size or at - start > _MAX_VALUE_BYTES:
                self.truncated(what, at - start, size - start)
            found.append(str(data[start:at], "utf-8", "surrogateescape"))
        self.at = at
        return found

    def boolean(self, raw: bytes, what: str) -> bool:
        if raw and max(raw) > 1:
            self.fail(f"{what}: bool of {max(raw)} -> 0 or 1")
        return raw == b"\1"

    def name(self, what: str) -> str:
        raw = self.take(self.length(what), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return self.fail(f"{what}: not UTF-8: {raw[:40]!r}")

    def length(self, what: str) -> int:
        return self.u64(f"length of {what}")

    def u32(self, what: str) -> int:
        return int(_U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack(self.take(8, what))[0])

    def take(self, count: int, what: str) -> bytes:
        if count > self.size - self.at or count > _MAX_VALUE_BYTES:
            self.truncated(what, count, self.size - self.at)
        self.at += count
        return self.data[self.at - count : self.at]

    def fits(self, count: int, item_bytes: int, what: str) -> None:
        """Refuse `count` items of at least `item_bytes` before anything is made of them."""
        left = min(self.size - self.at, _MAX_VALUE_BYTES)
        if count * item_bytes > left:
            self.fail(f"{count} {what} -> at most {left // item_bytes} in the bytes that are left")

    def truncated(self, what: str, wanted: int, left: int) -> NoReturn:
        self.fail(
            f"{what}: {wanted} bytes wanted, {left} left; "
            "the file is truncated or corrupt, fetch it again"
        )

    def fail(self, what: str) -> NoReturn:
        raise GGUFError(f"[{self.path.name}] {what}")
