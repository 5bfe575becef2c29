"""A GGUF model, of one file or of shards, as metadata and a table of tensors.

No model is known here: what the keys and tensors mean is for ferrum.models to say.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrum.builder.gguf_header import GGUFError, Header, Tensor, quoted, read_header

__all__ = ["GGUF", "GGUFError", "SourceFile", "Tensor"]

_SHARD_NAME = re.compile(r"(?P<stem>.*)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


@dataclass(frozen=True)
class SourceFile:
    """One file of a model: its size, and the length and SHA-256 of its header."""

    path: Path
    size: int
    header_bytes: int
    sha256: str


@dataclass(frozen=True)
class GGUF:
    """An opened model; no file stays open, tensor data is not read."""

    path: Path  # the first shard
    metadata: dict[str, Any]  # of the first shard
    tensors: dict[str, Tensor]  # of all shards, in file order
    files: tuple[SourceFile, ...]
    alignment: int

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GGUF:
        """Read the headers of `path` and, if it is a shard, of all shards beside it.

        Values of strings are str (bytes that are not UTF-8 as surrogates), arrays of strings
        list[str], arrays of numbers numpy arrays, other values int, float or bool. Raises
        `GGUFError`, whose message is one line, for any file that breaks a rule of the format.
        """
        given = read_header(Path(path))
        count = _split_value(given, "split.count", 1)
        headers = [given] if count <= 1 else _shards(given, count)
        first = headers[0]
        tensors: dict[str, Tensor] = {}
        for header in headers:
            for name, tensor in header.tensors.items():
                if name in tensors:
                    raise GGUFError(
                        f"[{header.path.name}] tensor {quoted(name)} is also in "
                        f"{tensors[name].path.name}"
                    )
                tensors[name] = tensor
        _check_total(first, len(tensors))
        files = tuple(SourceFile(h.path, h.size, h.header_bytes, h.sha256) for h in headers)
        return cls(first.path, first.metadata, tensors, files, first.alignment)


def _shards(given: Header, count: int) -> list[Header]:
    """The headers of all shards in order, found by the name of the one that was given."""
    match = _SHARD_NAME.fullmatch(given.path.name)
    if match is None:
        raise GGUFError(
            f"[{given.path.name}] one shard of {count}, but its name is not "
            f"NAME-00001-of-{count:05d}.gguf; give the shards their names back"
        )
    if int(match["count"]) != count:
        raise GGUFError(
            f"[{given.path.name}] split.count is {count}, the file name says {int(match['count'])}"
        )
    headers = []
    for index in range(count):
        path = given.path.with_name(f"{match['stem']}-{index + 1:05d}-of-{count:05d}.gguf")
        if not path.exists():
            raise GGUFError(
                f"[{path.name}] missing: shard {index + 1} of {count} -> all shards in one folder"
            )
        header = given if path == given.path else read_header(path)
        _check_shard(header, index, count)
        headers.append(header)
    return headers


def _check_shard(header: Header, index: int, count: int) -> None:
    for key, wanted in (("split.no", index), ("split.count", count)):
        got = _split_value(header, key, -1)
        if got != wanted:
            shown = "missing" if got == -1 else str(got)
            raise GGUFError(f"[{header.path.name}] {key} {shown} -> {wanted}")


def _check_total(first: Header, found: int) -> None:
    wanted = _split_value(first, "split.tensors.count", found)
    if wanted != found:
        raise GGUFError(
            f"[{first.path.name}] split.tensors.count {wanted}, but the shards hold {found} tensors"
        )


def _split_value(header: Header, key: str, default: int) -> int:
    value = header.metadata.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GGUFError(f"[{header.path.name}] {key} is a {type(value).__name__} -> an integer")
    return value
