"""How much memory this process can still have: what the system has, and what its group may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")


@dataclass(frozen=True)
class _Version:
    """Where a version of control groups has a group's figures."""

    controller: str  # as /proc/self/cgroup names it
    top: str
    limit: str
    held: str
    files: str  # in memory.stat


_VERSIONS = (
    _Version("", "sys/fs/cgroup", "memory.max", "memory.current", "file"),
    _Version("memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
             "total_cache"),
)  # fmt: skip


def free_memory(root: Path = _ROOT) -> int:
    """Bytes that programs can still have, pages of files counted as free.

    The least of Linux's own estimate and of what the process's control groups, as containers are,
    leave it; elsewhere the size of the memory. `root`: where /proc and /sys lie.
    """
    return min([_of_the_system(root), *_of_the_groups(root)])


def _of_the_system(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_the_groups(root: Path) -> Iterator[int]:
    """What each group that has a limit leaves, from the process's own one up."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        for version in _VERSIONS:
            if version.controller in controllers.split(","):
                top = root / version.top
                group = top / own.lstrip("/")
                # In a container the path may be the host's; the container's own group is the top.
                for place in (group, *group.parents):
                    if place.is_relative_to(top):
                        yield from _left(place, version)


def _left(group: Path, version: _Version) -> Iterator[int]:
    """A group's limit less what it holds beside pages of files; nothing where it has no limit."""
    try:
        limit = int((group / version.limit).read_text())  # of version 2 it may be "max"
        held = int((group / version.held).read_text())
        statistics = (group / "memory.stat").read_text()
        files = next(
            int(line.split()[1]) for line in statistics.splitlines()
            if line.startswith(f"{version.files} ")
        )  # fmt: skip
    except (OSError, ValueError, StopIteration):
        return
    yield max(0, limit - held + files)
