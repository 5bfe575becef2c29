"""Free memory: the least of what the system has and what control groups leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrum.runtime.free_memory import free_memory

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """/proc and /sys of a machine with 8 GiB available, the process in the group a/b."""
    write(tmp_path / "proc/meminfo", "MemTotal: 1 kB\nMemAvailable:    8388608 kB\n")
    write(tmp_path / "proc/self/cgroup", "3:cpu,cpuacct:/\n0::/a/b\n")
    (tmp_path / "sys/fs/cgroup/a/b").mkdir(parents=True)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def limit(machine: Path, group: str, most: str, current: int = 0, file: int = 0) -> None:
    folder = machine / "sys/fs/cgroup" / group
    write(folder / "memory.max", f"{most}\n")
    write(folder / "memory.current", f"{current}\n")
    write(folder / "memory.stat", f"anon 17\nfile {file}\nkernel 3\n")


def test_without_groups_it_is_what_the_system_has(machine: Path) -> None:
    assert free_memory(machine) == 8 * GIB
    limit(machine, "a/b", "max")
    assert free_memory(machine) == 8 * GIB


def test_a_group_s_limit_counts_pages_of_files_as_free(machine: Path) -> None:
    limit(machine, "a/b", str(4 * GIB), current=3 * GIB, file=2 * GIB)
    assert free_memory(machine) == 3 * GIB
    limit(machine, "a/b", str(4 * GIB), current=5 * GIB)
    assert free_memory(machine) == 0
    limit(machine, "a/b", str(64 * GIB))
    assert free_memory(machine) == 8 * GIB


def test_the_groups_above_count_too(machine: Path) -> None:
    limit(machine, "a", str(2 * GIB))
    limit(machine, "a/b", str(4 * GIB))
    assert free_memory(machine) == 2 * GIB


def test_a_container_s_group_is_the_top(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "0::/host/path\n")
    limit(machine, ".", str(2 * GIB))
    assert free_memory(machine) == 2 * GIB


def test_groups_of_version_1_count_too(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "4:memory:/a\n3:cpu:/\n0::/\n")
    folder = machine / "sys/fs/cgroup/memory/a"
    write(folder / "memory.limit_in_bytes", f"{3 * GIB}\n")
    write(folder / "memory.usage_in_bytes", f"{2 * GIB}\n")
    write(folder / "memory.stat", f"cache 1\ntotal_cache {GIB}\ntotal_rss 5\n")
    assert free_memory(machine) == 2 * GIB


def test_files_that_say_something_else_are_no_limit(machine: Path) -> None:
    write(machine / "sys/fs/cgroup/a/b/memory.max", "plenty")
    assert free_memory(machine) == 8 * GIB


def test_this_machine_has_some() -> None:
    assert free_memory() > 1 << 20


def test_without_proc_it_is_the_size_of_the_memory(tmp_path: Path) -> None:
    assert free_memory(tmp_path) > 1 << 20
