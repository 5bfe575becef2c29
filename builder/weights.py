"""Decide where a model's blocks lie beside the .onnx, and put them there.

ONNX Runtime maps external data only from the .onnx's own folder and refuses a symbolic link that
leads out of it, so a GGUF that lies elsewhere is hard-linked, reflinked or copied into it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["auto", "reference", "link", "copy"]
Method = Literal["reference", "link", "reflink", "copy"]
MODES: tuple[Mode, ...] = ("auto", "reference", "link", "copy")

_FICLONE = 0x40049409  # linux/fs.h: make one file share another's extents
_CHUNK = 16 << 20
_SPARE_BYTES = 16 << 20  # for the other outputs, when a copy would just fit


class WeightsError(ValueError):
    """Weights that cannot be where they were asked to be; the message is one line."""


@dataclass(frozen=True)
class Placement:
    """One source file and the name that the .onnx calls it by, in the .onnx's own folder.

    `in_place`: it is there already, as itself or as a hard link, and nothing need be written.
    """

    source: Path
    name: str
    in_place: bool


def plan_weights(sources: Sequence[Path], folder: Path, mode: Mode = "auto") -> list[Placement]:
    """Decide, before anything is written, which of `sources` are in place in `folder`.

    Raises `WeightsError` where `mode` cannot be had: "reference" for a file that is not in the
    folder, "copy" for one that is.
    """
    if mode not in MODES:
        raise WeightsError(f"[weights] mode {mode!r} -> one of {', '.join(MODES)}")
    plan = [
        _plan_file(source, folder, mode, name)
        for source, name in zip(sources, _shard_names(sources, folder), strict=True)
    ]
    names = [placement.name for placement in plan]
    for name in names:
        if names.count(name) > 1:
            raise WeightsError(f"[{name}] two source files have this name; rename one")
    return plan


def _shard_names(sources: Sequence[Path], folder: Path) -> list[str | None]:
    """Names that tell which shard of a model each file is; None for a model of one file.

    Links in the output's own folder keep their places, and then all shards take other names.
    """
    if len(sources) == 1:
        return [None]
    prefix = "ferrum-" if any(_is_link_in(source, folder) for source in sources) else ""
    return [prefix + source.name for source in sources]


def _is_link_in(source: Path, folder: Path) -> bool:
    return source.is_symlink() and source.parent.resolve() == folder.resolve()


def _plan_file(source: Path, folder: Path, mode: Mode, name: str | None) -> Placement:
    real = source.resolve()
    if name in (None, real.name) and folder.is_dir() and real.parent == folder.resolve():
        if mode == "copy":
            raise WeightsError(
                f"[{source}] lies in the output's folder already -> --weights reference, "
                "or an output elsewhere"
            )
        return Placement(real, real.name, in_place=True)
    if name is None:  # a link in the output's own folder keeps its place
        name = real.name if _is_link_in(source, folder) else source.name
    target = folder / name
    linked = not target.is_symlink() and target.exists() and target.samefile(real)
    if linked and mode == "copy":
        raise WeightsError(f"[{target}] is a hard link of {source} -> remove it before a copy")
    if mode == "reference" and not linked:
        raise WeightsError(
            f"[{source}] does not lie in the output's folder {folder} -> --weights auto, link or "
            "copy, or an output beside it"
        )
    if name == source.name and _is_link_in(source, folder):
        raise WeightsError(
            f"[{source}] is a symbolic link that leads out of the output's folder, which ONNX "
            "Runtime refuses -> an output in another folder"
        )
    return Placement(real, name, in_place=linked)


def place_weights(
    plan: Sequence[Placement],
    staging: Path,
    mode: Mode = "auto",
    *,
    progress: bool = True,
    more_bytes: int = 0,
) -> list[Method]:
    """Put the files that are not in place into `staging`, and say how each came there.

    "auto" tries a hard link, then a reflink, then a copy; "copy" tries a reflink, which is a
    copy that shares storage until either is written to. The space for all copies, and for
    `more_bytes` that others will write, is checked before the first byte. `progress`: draw a bar
    on stderr, if that is a terminal.
    """
    methods: list[Method] = []
    to_copy: list[Placement] = []
    for placement in plan:
        target = staging / placement.name
        if placement.in_place:
            methods.append("reference")
        elif mode in ("auto", "link") and _hard_link(placement.source, target, mode == "link"):
            methods.append("link")
        elif mode in ("auto", "copy") and reflink(placement.source, target):
            methods.append("reflink")
        else:
            methods.append("copy")
            to_copy.append(placement)
    _check_space(to_copy, staging, more_bytes)
    total = sum(placement.source.stat().st_size for placement in to_copy)
    with progress_bar(total, "copying weights", shown=progress and total > 0) as advance:
        for placement in to_copy:
            _copy(placement.source, staging / placement.name, advance)
    return methods


def _hard_link(source: Path, target: Path, required: bool) -> bool:
    try:
        os.link(source, target)
    except OSError as error:
        if not required:
            return False
        reason = "is on another file system" if error.errno == errno.EXDEV else error.strerror
        raise WeightsError(
            f"[{source}] cannot be hard-linked: {reason} -> --weights copy"
        ) from error
    return True


def reflink(source: Path, target: Path) -> bool:
    """Make `target` share `source`'s extents; False, and no file, where that cannot be done."""
    try:
        with source.open("rb") as original, target.open("xb") as clone:
            fcntl.ioctl(clone.fileno(), _FICLONE, original.fileno())
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        target.unlink(missing_ok=True)
        return False
    return True


def _check_space(to_copy: Sequence[Placement], folder: Path, more_bytes: int) -> None:
    needed = sum(placement.source.stat().st_size for placement in to_copy)
    if not needed + more_bytes:
        return
    free = shutil.disk_usage(folder).free
    if needed + more_bytes + _SPARE_BYTES <= free:
        return
    if not needed:
        raise WeightsError(
            f"[layout] re-laid weights need {_gigabytes(more_bytes)}, {_gigabytes(free)} "
            "are free -> --layout file needs none"
        )
    names = ", ".join(placement.name for placement in to_copy)
    raise WeightsError(
        f"[{names}] a copy needs {_gigabytes(needed + more_bytes)}, {_gigabytes(free)} are "
        "free -> an output on the GGUF's own file system needs none"
    )


def _copy(source: Path, target: Path, advance: Callable[[int], None]) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    copied = 0
    with source.open("rb", buffering=0) as original, target.open("xb", buffering=0) as copy:
        size = os.fstat(original.fileno()).st_size
        try:
            while count := original.readinto(buffer):
                written = 0
                while written < count:
                    written += copy.write(buffer[written:count])
                copied += count
                advance(count)
        except OSError as error:
            raise WeightsError(
                f"[{source}] copy stopped after {_gigabytes(copied)}: {error.strerror}"
            ) from error
    if copied != size:
        raise WeightsError(f"[{source}] changed while it was copied: {copied} bytes -> {size}")


@contextmanager
def progress_bar(total: int, text: str, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """What takes the bytes done, and draws them on stderr where that is a terminal."""
    if not shown or not sys.stderr.isatty():
        yield lambda _count: None
        return
    # Imported here because a build that copies nothing should not wait for it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(text), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda count: bar.advance(task, count)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
