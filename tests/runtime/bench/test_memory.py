"""A process's memory is read from outside, its own and that of files apart."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ferrum.runtime.bench.memory import Memory, PeakMemory, memory_of

MB = 1 << 20
ROUNDED = 4 * MB  # kernels add up what each processor has counted for itself, up to some pages
# Says when it has started, holds memory of its own and a file's for a moment, then gives both back.
CHILD = """
import mmap, sys
print("started", flush=True)
input()
data = bytearray(b"x" * (60 << 20))
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
sum(mapped[i] for i in range(0, len(mapped), 4096))
print("held", flush=True)
input()
del data
mapped.close()
print("given back", flush=True)
input()
"""


def test_peaks_of_a_real_process_keep_what_it_gave_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(40 * MB))
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path / "file"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None

        def go_on() -> None:
            child.stdin.write("\n")
            child.stdin.flush()
            child.stdout.readline()

        child.stdout.readline()
        before, peak = memory_of(child.pid), PeakMemory(child.pid)
        with peak.watch():
            go_on()
            held = memory_of(child.pid)
            deadline = time.monotonic() + 60
            while peak.peak.file < held.file and time.monotonic() < deadline:
                time.sleep(0.01)
            go_on()
        after = memory_of(child.pid)
        child.stdin.close()
    assert held.anonymous - before.anonymous >= 60 * MB - ROUNDED
    assert held.file - before.file >= 40 * MB - ROUNDED
    assert peak.peak.anonymous - after.anonymous >= 60 * MB - ROUNDED
    assert peak.peak.file - after.file >= 40 * MB - ROUNDED


def test_a_block_that_ends_at_once_was_looked_at() -> None:
    peak = PeakMemory(os.getpid())
    with peak.watch():
        pass
    assert peak.peak.anonymous > MB


def test_a_process_that_ended_has_no_memory_and_ends_the_watch() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(OSError, match=f"{child.pid} has ended"):
            memory_of(child.pid)
        peak = PeakMemory(child.pid)
        with peak.watch():
            pass
    assert peak.peak == Memory(0, 0)


def test_peaks_begin_anew_when_cleared() -> None:
    peak = PeakMemory(os.getpid())
    peak.look()
    assert peak.peak.anonymous > MB
    peak.clear()
    assert peak.peak == Memory(0, 0)
