"""Publish the files of one build whole or not at all.

Files are written into a hidden folder beside their targets, `.ferrum-<pid>-<random>/`, made
durable, and renamed into place with a journal. A failure puts the old files back; a process that
was killed leaves the hidden folder, from which the next build in that folder does the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ferrum.builder.interrupts import catch_interrupts
from ferrum.commands.journal import JOURNAL, identity

_GONE: list[int] = []  # the identity of no file
_STAGING_NAME = re.compile(r"\.ferrum-(\d+)-[0-9a-f]{8}")


class OutputError(ValueError):
    """Outputs that cannot be written; the message is one line."""


@contextmanager
def publish(
    folder: Path,
    names: Sequence[str],
    *,
    obsolete: Sequence[str] = (),
    inputs: Sequence[Path] = (),
    force: bool = False,
) -> Iterator[Path]:
    """A folder to write `names` into; they move to `folder` together when the block succeeds.

    Renames happen in the order of `names`, so the file that makes the others count (the .onnx)
    comes last; then `obsolete` files go, if they are there. `folder` is made if it is missing.
    Raises `OutputError` before the block if two names are one, if a target exists and `force` is
    not set, or if a target or an obsolete file is one of `inputs` even then.
    """
    _check_names(names)
    with catch_interrupts() as signals, _made_folder(folder):
        recover(folder)
        _check_targets(folder, names, obsolete, inputs, force)
        staging = _Staging(folder, _staging_path(folder))
        try:
            try:
                signals.hold()
                staging.make()
                signals.release()
                yield staging.new
                signals.hold()
                _check_targets(folder, names, obsolete, inputs, force, again=True)
                staging.commit(names, obsolete)
            finally:
                signals.hold()
                staging.remove()
        finally:  # once more, for a signal that came just before it could be held
            signals.hold()
            staging.remove()


def recover(folder: Path) -> None:
    """Undo what killed builds left in `folder`; builds that still run are left alone."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise OutputError(f"[{folder}] cannot be read: {error.strerror}") from error
    for entry in entries:
        match = _STAGING_NAME.fullmatch(entry.name)
        if match is None or entry.is_symlink() or not entry.is_dir():
            continue
        # A folder of another user cannot be cleared by us and harms no one: not our failure.
        with suppress(PermissionError), _Staging(folder, entry).abandoned(int(match[1])) as staging:
            if staging is not None:
                staging.roll_back()
                staging.remove()


class _Staging:
    """The hidden folder: `new/` is written by the build, `old/` holds what is replaced."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path = folder, path
        self.new, self.old = path / "new", path / "old"
        self.journal = path / JOURNAL
        self._lock: int | None = None

    def make(self) -> None:
        try:
            self.path.mkdir()
            self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            _try_lock(self._lock)
            self.new.mkdir()
            self.old.mkdir()
        except OSError as error:
            raise OutputError(f"[{self.folder}] cannot be written to: {error.strerror}") from error

    @contextmanager
    def abandoned(self, pid: int) -> Iterator[_Staging | None]:
        """This folder, locked, if its process is gone; else None.

        The lock tells, for a pid means nothing in another container, and another process may have
        it by now. A builder has its lock before it makes `new`; until then the pid tells, and where
        the file system has no locks.
        """
        if not self.new.exists() and _alive(pid):
            yield None
            return
        self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            locked = _try_lock(self._lock)
            gone = not _alive(pid) if locked is None else locked
            yield self if gone else None
        finally:
            self.release()

    def commit(self, names: Sequence[str], obsolete: Sequence[str]) -> None:
        """Rename every staged file over its target, or leave all targets as they were."""
        missing = set(names) ^ {entry.name for entry in self.new.iterdir()}
        if missing:
            raise OutputError(f"[{self.folder}] not as announced: {', '.join(sorted(missing))}")
        for name in names:
            # A hard link's data is the source's, which may still be on its way to the disk for
            # minutes; it is not ours to wait for.
            if (self.new / name).stat().st_nlink == 1:
                _sync(self.new / name)
        staged = {name: identity(self.new / name) for name in names}
        staged |= dict.fromkeys(obsolete, _GONE)
        draft = self.path / "commit.draft"
        draft.write_text(json.dumps(staged))
        _sync(draft)
        draft.rename(self.journal)
        _sync(self.path)
        try:
            for name in staged:
                self._keep_old(name)
            for name in names:
                (self.new / name).replace(self.folder / name)
            for name in obsolete:
                (self.folder / name).unlink(missing_ok=True)
            _sync(self.folder)
        except BaseException:
            self.roll_back()
            raise

    def _keep_old(self, name: str) -> None:
        target = self.folder / name
        if not os.path.lexists(target):
            return
        try:
            os.link(target, self.old / name, follow_symlinks=False)
        except OSError:  # a file system without hard links: the target is absent for a moment
            target.rename(self.old / name)

    def roll_back(self) -> None:
        """Undo a commit that has begun and not ended; one that has ended stays."""
        if not self.journal.exists():
            return
        staged: dict[str, list[int]] = json.loads(self.journal.read_text())
        if not any(os.path.lexists(self.new / name) for name in staged):
            return
        for name, moved in staged.items():
            target = self.folder / name
            placed = os.path.lexists(target)
            if placed and identity(target) != moved:
                continue  # not reached yet, or changed by someone since
            if os.path.lexists(self.old / name):
                (self.old / name).replace(target)
            elif placed:
                target.unlink()
        _sync(self.folder)

    def remove(self) -> None:
        # The journal goes first: without it, what is left means nothing and is only cleared.
        self.journal.unlink(missing_ok=True)
        if self.path.exists():
            shutil.rmtree(self.path)
        self.release()

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _staging_path(folder: Path) -> Path:
    return folder / f".ferrum-{os.getpid()}-{secrets.token_hex(4)}"


def _check_names(names: Sequence[str]) -> None:
    """One of two files of a name would be written over the other, which may be a hard link."""
    for name in names:
        if names.count(name) > 1:
            raise OutputError(
                f"[{name}] two files of the export have this name -> another name for the GGUF or "
                "the output"
            )


def _check_targets(
    folder: Path,
    names: Sequence[str],
    obsolete: Sequence[str],
    inputs: Sequence[Path],
    force: bool,
    *,
    again: bool = False,
) -> None:
    """`again`: what is wrong was not when the build began."""
    meanwhile = "another build wrote here since this one began; build again"
    existing = [name for name in names if os.path.lexists(folder / name)]
    for name in [*existing, *obsolete]:
        target = folder / name
        if target.is_dir():
            raise OutputError(f"[{target}] is a folder -> a file name for the output")
        for source in inputs:
            if target.exists() and source.exists() and target.samefile(source):
                remedy = meanwhile if again else "choose another output"
                raise OutputError(f"[{target}] is the input itself; {remedy}")
    if existing and not force:
        remedy = meanwhile if again else "pass --force to replace"
        raise OutputError(f"[{folder}] already there: {', '.join(existing)}; {remedy}")


@contextmanager
def _made_folder(folder: Path) -> Iterator[None]:
    """Make `folder` and its parents; take away again what was made if the block fails."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"[{folder}] cannot be made: {error.strerror}") from error
    try:
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # someone else has put something there meanwhile
                path.rmdir()
        raise


def _alive(pid: int) -> bool:
    if pid == os.getpid():  # in a container every build may have the same pid: the lock decides
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _try_lock(lock: int) -> bool | None:
    """Whether it is ours now; None where there are no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
