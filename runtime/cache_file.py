"""Published blocks of the KV caches to a file, and back into a pool of the same model.

The file, in this order:
    one line of JSON     what it is, its version, how many blocks of how many bytes, and the stamp
    digests              16 bytes for each block, the one that would be taken first before others
    blocks               their contents, in the same order
    checksum             16 bytes: BLAKE2b of all of the above
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferrum.commands.report_file import ReportError, new_report
from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.placement import Caches
from ferrum.runtime.prefix_cache import DIGEST_BYTES

Stamp = Mapping[str, str | int]

_CHECKSUM_BYTES = 16
_LONGEST_HEADER = 1 << 16


class CacheFileError(ValueError):
    """A file of cached blocks that cannot be written, read or used; one line."""


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["ferrum cache"] = "ferrum cache"
    version: Literal[1] = 1
    blocks: int = Field(ge=0)
    block_bytes: int = Field(ge=1)
    stamp: dict[str, str | int]


def save_blocks(path: Path, pool: BlockPool, caches: Caches, stamp: Stamp) -> int:
    """Write every published block into a file, which appears whole or not at all.

    Returns how many there are.
    """
    published = list(pool.published())
    header = _Header(blocks=len(published), block_bytes=caches.block_bytes, stamp=dict(stamp))
    try:
        with new_report(path) as file:
            _write(file, header, published, caches)
    except ReportError as error:
        raise CacheFileError(str(error)) from None
    return len(published)


def restore_blocks(path: Path, pool: BlockPool, caches: Caches, stamp: Stamp) -> int:
    """Fill unused blocks from a file; where they are too few, with those used last.

    Returns how many were filled. CacheFileError, and the pool is as it was, where the file is of
    something else or damaged.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST_HEADER)
            header = _checked(path, line, stamp, caches)
            expected = len(line) + header.blocks * (DIGEST_BYTES + header.block_bytes)
            size = os.fstat(file.fileno()).st_size
            if size != expected + _CHECKSUM_BYTES:
                raise CacheFileError(
                    f"[{path}] {size:,} bytes -> {expected + _CHECKSUM_BYTES:,}, as its header "
                    "says: it was cut off, or written over"
                )
            return _restore(path, file, hashlib.blake2b(line, digest_size=_CHECKSUM_BYTES),
                            header, pool, caches)  # fmt: skip
    except OSError as error:
        raise CacheFileError(f"[{path}] cannot be read: {error.strerror}") from None
    except CacheFileError:
        raise
    except ValueError:
        raise CacheFileError(f"[{path}] can be no file's name") from None


def _write(
    file: BinaryIO, header: _Header, published: list[tuple[int, bytes]], caches: Caches
) -> None:
    checksum = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)

    def put(content: bytes | memoryview) -> None:
        checksum.update(content)
        file.write(content)

    put(json.dumps(header.model_dump()).encode() + b"\n")
    put(b"".join(key for _, key in published))
    for block, _ in published:
        put(caches.read(block).data)
    file.write(checksum.digest())


def _checked(path: Path, line: bytes, stamp: Stamp, caches: Caches) -> _Header:
    """The header of a file that can be used here."""
    try:
        header = _Header.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CacheFileError(
            f"[{path}] is no file of cached blocks that this version reads -> one that it has "
            f"saved ({where or 'its first line'}: {first['msg']})"
        ) from None
    for name in sorted({*stamp, *header.stamp}):
        theirs, ours = header.stamp.get(name), stamp.get(name)
        if theirs != ours:
            raise CacheFileError(f"[{path}] its blocks are of {name} {theirs!r} -> {ours!r}")
    if header.block_bytes != caches.block_bytes:
        raise CacheFileError(
            f"[{path}] blocks of {header.block_bytes:,} bytes -> {caches.block_bytes:,}"
        )
    return header


def _restore(path: Path, file: BinaryIO, checksum: hashlib.blake2b, header: _Header,
             pool: BlockPool, caches: Caches) -> int:  # fmt: skip
    """Read all of the file; the blocks are found by others only after its checksum was right."""
    digests = _read(file, header.blocks * DIGEST_BYTES)
    checksum.update(digests)
    keys = [digests[i : i + DIGEST_BYTES] for i in range(0, len(digests), DIGEST_BYTES)]
    wanted = [i for i, key in enumerate(keys) if pool.find(key) is None]
    wanted = wanted[max(0, len(wanted) - pool.unused) :]
    blocks = dict(zip(wanted, pool.take(len(wanted)), strict=True))
    before = pool.cached
    try:
        for i in range(header.blocks):
            content = _read(file, header.block_bytes)
            checksum.update(content)
            if i in blocks:
                caches.write(blocks[i], np.frombuffer(content, np.uint8))
        if file.read(_CHECKSUM_BYTES) != checksum.digest():
            raise CacheFileError(f"[{path}] its checksum is of other bytes: it was damaged")
        for i, block in blocks.items():
            pool.publish(block, keys[i])
    finally:
        pool.give(reversed(blocks.values()))  # the file's order is that of being taken
    return pool.cached - before


def _read(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:  # somebody has just cut it off
        raise OSError(0, "it ends too early")
    return content
