"""What ferrum-build leaves while it renames its files into place: `.ferrum-<pid>-<random>/`.

`new/` has the files that are still to be moved, the journal their identities once they are.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

JOURNAL = "commit.json"


def identity(path: Path) -> list[int]:
    """What tells a file from another that later gets its name, and perhaps its inode."""
    status = path.lstat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def half_done(folder: Path) -> bool:
    """Whether files of two builds lie there: one has moved some of its files, and not all.

    It still runs, or it was killed; then the next build in `folder` puts the old files back.
    """
    return any(map(_between, folder.glob(f".ferrum-*/{JOURNAL}")))


def _between(journal: Path) -> bool:
    staging, moved = journal.parent, False
    with suppress(OSError, ValueError, AttributeError):  # gone meanwhile, or no journal of ours
        for name, staged in json.loads(journal.read_text()).items():
            with suppress(FileNotFoundError):
                moved = moved or identity(staging.parent / name) == staged
        return moved and any((staging / "new").iterdir())
    return False
