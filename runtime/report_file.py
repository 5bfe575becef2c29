"""Files that a run leaves beside its text: whole or not at all, and never one of the model's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ferrum.runtime.strict_settings import SettingsError


class ReportError(SettingsError):
    """A file that a report cannot be written to; one line."""


def check_report(option: str, path: Path, kept: Sequence[Path]) -> None:
    """ReportError where `path`, which an option names, is none to write to, or one of `kept`."""
    if path.is_dir() or not path.name or not path.absolute().parent.is_dir():
        raise ReportError(f"[{option}] {path} -> a file in an existing folder")
    for file in kept:
        if path.exists() and file.exists() and path.samefile(file):
            raise ReportError(f"[{option}] {path} is a file of the model -> another one")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` when the block succeeds."""
    if path.exists() and not path.is_file():  # such as /dev/stdout
        yield path
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
