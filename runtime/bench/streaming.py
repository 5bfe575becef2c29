"""A model larger than the memory: how fast its weights can come from the disk, said in one line."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ferrum.runtime.artifact import Artifact
from ferrum.runtime.bench.work import Work, work_of
from ferrum.runtime.weight_pages import WeightPages

_PIECE = 1 << 20  # about what one matrix of an expert takes
_AT_A_TIME = 8  # reads that the disk has before it, as when a layer asks for its experts
_SECONDS = 0.3


def streaming_notice(artifact: Artifact, pages: WeightPages) -> str | None:
    """What it means for decoding that weights do not fit; None where they do.

    Reads from the disk for a third of a second.
    """
    if pages.fit:
        return None
    notice = (
        f"{pages.size / 2**30:.1f} GiB of weights, room for {pages.room / 2**30:.1f} GiB: what a "
        "token needs comes partly from the disk"
    )
    rate = disk_rate(artifact.weights)
    if rate is None:
        return notice
    missing = bytes_from_disk(work_of(artifact.path, 0), pages)
    if not missing:
        return notice
    return (
        f"{notice}, {missing / 1e6:,.0f} MB if all experts are equally likely: at its "
        f"{rate / 1e9:.1f} GB/s {rate / missing:,.1f} tokens/s, and more where experts come again"
    )


def bytes_from_disk(work: Work, pages: WeightPages) -> float:
    """Bytes that decoding a token reads from the disk, as far as that can be expected.

    What every token reads stays in memory, if there is room for it; the experts share the rest.
    """
    experts = work.expert_bytes * work.experts
    always = min(work.dense_bytes, pages.size - experts)
    left = pages.room - always
    if left < 0 or experts == 0:
        return always - max(0, pages.room) + work.expert_bytes * work.experts_used
    return work.expert_bytes * work.experts_used * max(0.0, 1 - left / experts)


def disk_rate(files: Sequence[Path], seconds: float = _SECONDS) -> float | None:
    """Bytes per second that some reads at a time get from the files, past the page cache.

    None where the file system reads no other way than through that.
    """
    path = max(files, key=lambda file: file.stat().st_size)
    size = path.stat().st_size
    if not hasattr(os, "O_DIRECT") or size < _PIECE:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None
    try:
        with ThreadPoolExecutor(_AT_A_TIME) as threads:
            start = time.perf_counter()
            read = sum(
                threads.map(
                    lambda lane: _read_for(descriptor, size // _PIECE, lane, start + seconds),
                    range(_AT_A_TIME),
                )
            )
            return read / (time.perf_counter() - start)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read_for(descriptor: int, pieces: int, lane: int, until: float) -> int:
    """Read pieces from all over a file, one at least; how many bytes these were."""
    buffer = mmap.mmap(-1, _PIECE)  # O_DIRECT wants whole pages
    read, piece = 0, lane * pieces // _AT_A_TIME
    while True:
        read += os.preadv(descriptor, [buffer], piece * _PIECE)
        if time.perf_counter() >= until:
            return read
        piece = (piece + 7919) % pieces  # a prime: neighbours would come in one read
