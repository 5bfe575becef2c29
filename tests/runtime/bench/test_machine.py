"""What a record says of the machine is what the machine says of itself."""

from __future__ import annotations

import os
import re
from datetime import datetime

from ferrum.runtime.bench.machine import machine, memory_info, physical_cores


def test_the_machine_is_named() -> None:
    found = machine()
    assert datetime.fromisoformat(found.date).tzinfo is not None
    assert found.cpu
    assert 1 <= found.cores <= found.logical_cpus <= (os.cpu_count() or 1)
    assert found.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found.ferrum
    assert found.commit is None or re.fullmatch(r"[0-9a-f]{7,40}\+?", found.commit)


def test_cores_are_those_that_the_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert physical_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_memory_is_in_bytes() -> None:
    assert memory_info()["MemAvailable"] % 1024 == 0
    assert memory_info()["MemAvailable"] <= memory_info()["MemTotal"]
