"""Reports that a command is asked for: refused early, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class ReportError(ValueError):
    """A report that cannot be written where it was asked for; the message is one line."""


def check_reports(paths: Iterable[Path], kept: Iterable[Path]) -> None:
    """Refuse, before any work, targets that cannot be written or are one of `kept`.

    A report is no reason to lose a model: nor through a hard link, by which weights lie beside a
    graph, nor by the name of a file that is missing.
    """
    taken = list(kept)
    for path in paths:
        try:
            for other in taken:
                if _same(path, other):
                    raise ReportError(f"[{path}] is {other} itself -> another file for the report")
            _check_target(path)
        except OSError as error:
            raise ReportError(f"[{path}] cannot be written: {error.strerror}") from error
        taken.append(path)


def _same(path: Path, other: Path) -> bool:
    if path.exists() and not path.is_file():  # devices and pipes take any number of reports
        return False
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise ReportError(f"[{path}] is a folder -> a file for the report")
    if path.exists() and not os.access(path, os.W_OK):
        raise ReportError(f"[{path}] cannot be written: no permission")
    if not path.exists() or path.is_file():
        if _is_output(path):
            raise ReportError(f"[{path}] is the standard output -> a file for the report")
        folder = _target(path).parent
        if not folder.is_dir():
            raise ReportError(f"[{path}] no folder {folder} -> a file in an existing folder")
        if not _in_place(path):
            with tempfile.TemporaryFile(dir=folder):
                pass


def _in_place(path: Path) -> bool:
    """Whether nothing can take its place: no file, or one in a folder that we cannot change."""
    if not path.exists():
        return False
    return not path.is_file() or not os.access(_target(path).parent, os.W_OK)


def _is_output(path: Path) -> bool:
    try:
        return path.exists() and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False


def _target(path: Path) -> Path:
    """The file itself: a symbolic link stays one."""
    return Path(os.path.realpath(path))


def write_report(path: Path, content: bytes) -> None:
    """As `new_report`, for content that is there."""
    with new_report(path) as file:
        file.write(content)


@contextmanager
def new_report(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of what is there when the block ends well; pipes and
    devices are written into.

    ReportError where it cannot be written, and what is there is as it was.
    """
    try:
        if _in_place(path):
            with path.open("wb") as file:
                yield file
        else:
            with _replacing(_target(path)) as file:
                yield file
    except OSError as error:
        raise ReportError(f"[{path}] cannot be written: {error.strerror}") from error


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    draft = target.with_name(f".ferrum-report-{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, draft)
        try:
            draft.replace(target)
        except OSError as error:
            if error.errno != errno.EBUSY:  # a mount of its own, as containers have files
                raise
            shutil.copyfile(draft, target)
            draft.unlink()
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
