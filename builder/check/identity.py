"""The weights against the GGUF that the export was made of, byte for byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from ferrum.builder.build import decoded_norms
from ferrum.builder.check.export import Export, Reference
from ferrum.builder.check.finding import Finding, judged, skipped
from ferrum.builder.gguf import GGUF, Tensor
from ferrum.builder.layout import Relaid, read_blocks
from ferrum.builder.weights import progress_bar

_CHUNK = 4 << 20
_MOST_THREADS = 8


def weight_bytes(export: Export, *, quick: bool, progress: bool) -> Finding:
    """Every tensor's bytes have the SHA-256 of the GGUF's tensor of that name.

    Of one that was re-laid those are its blocks, put together again from its planes.
    `quick`: where both are one file on disk (a hard link), comparing places is enough.
    """
    if export.source is None:
        return skipped("no --gguf to compare with")
    source = export.source
    problems = [
        f"{name}: not in {source.path.name}"
        for name in export.references
        if name not in source.tensors
    ]
    pairs = [(r, source.tensors[n]) for n, r in export.references.items() if n in source.tensors]
    for reference, tensor in pairs:
        if reference.length != tensor.nbytes:
            problems.append(
                f"{reference.name}: {reference.length} bytes -> {tensor.nbytes} in the source"
            )
    one_file = all(_same_file(export.folder / r.location, t.path) for r, t in pairs)
    if one_file:
        problems += [
            f"{r.name}: at {r.offset} -> {t.offset} of the same file"
            for r, t in pairs
            if r.offset != t.offset
        ]
    problems += _stored_norms(export, source)
    total = sum(reference.length for reference, _ in pairs)
    if problems or (quick and one_file):
        return judged(problems, f"one file on disk; {len(pairs)} names, places and sizes equal")
    with progress_bar(total * (1 if one_file else 2), "hashing weights", shown=progress) as advance:
        problems, digest = _compare(export, pairs, advance)
    same = "; both are one file on disk" if one_file else ""
    return judged(
        problems, f"{len(pairs)} tensors, {total:,} bytes equal{same}; SHA-256 of all {digest[:16]}"
    )


def _compare(
    export: Export, pairs: list[tuple[Reference, Tensor]], advance: Callable[[int], None]
) -> tuple[list[str], str]:
    """What differs, and one digest over all names and the digests of their bytes."""

    def digests(pair: tuple[Reference, Tensor]) -> tuple[str, str]:
        reference, tensor = pair
        path = export.folder / reference.location
        if export.relaid and reference.name in export.relaid.tensors:
            ours = hash_blocks(export.relaid, reference.name, advance)
        else:
            ours = hash_range(path, reference.offset, reference.length, advance)
        if _same_file(path, tensor.path) and reference.offset == tensor.offset:
            return ours, ours
        return ours, hash_range(tensor.path, tensor.offset, tensor.nbytes, advance)

    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(digests, pairs))
    problems = [
        f"{reference.name}: bytes differ (SHA-256 {ours[:12]}... -> {theirs[:12]}...)"
        for (reference, _), (ours, theirs) in zip(pairs, found, strict=True)
        if ours != theirs
    ]
    whole = hashlib.sha256()
    for name, ours in sorted((r.name, d[0]) for (r, _), d in zip(pairs, found, strict=True)):
        whole.update(f"{name} {ours}\n".encode())
    return problems, whole.hexdigest()


def hash_blocks(relaid: Relaid, name: str, advance: Callable[[int], None]) -> str:
    """SHA-256 of the blocks that a re-laid tensor holds."""
    digest = hashlib.sha256()
    for blocks in read_blocks(relaid, name):
        digest.update(blocks.data)
        advance(blocks.nbytes)
    return digest.hexdigest()


def hash_range(path: Path, offset: int, length: int, advance: Callable[[int], None]) -> str:
    """SHA-256 of a stretch of a file, in a few MB of memory; OSError where the file is shorter."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_CHUNK, max(length, 1))))
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while length:
            count = file.readinto(buffer[: min(length, len(buffer))])
            if not count:
                raise OSError(f"[{path.name}] ends {length} bytes early")
            digest.update(buffer[:count])
            advance(count)
            length -= count
    return digest.hexdigest()


def _stored_norms(export: Export, source: GGUF) -> list[str]:
    """Norms that are not F32 in the file are decoded into the .onnx; their values must be equal."""
    problems = []
    for name, values in decoded_norms(source).items():
        tensor = export.initializers.get(name)
        if tensor is None or tensor.external_data:
            problems.append(f"{name}: not stored in the graph -> its decoded values")
        elif not np.array_equal(numpy_helper.to_array(tensor), values):
            problems.append(f"{name}: values differ from the source's")
    return problems


def _same_file(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)
