"""CPU time that others take is told from the benchmark's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ferrum.runtime.bench import load
from ferrum.runtime.bench.load import CpuLoad

BUSY = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


def test_a_side_s_own_work_is_not_foreign_but_another_s_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as side:
        quiet = CpuLoad(side.pid)
        idle, busy, own = quiet._idle, quiet._busy, quiet._own
        # Of ten seconds of two CPUs: five idle, and of the rest three are the benchmark's.
        monkeypatch.setattr(quiet, "_now", lambda: (idle + 5, busy + 5, own + 3))
        assert quiet.foreign() == pytest.approx(0.2)
        monkeypatch.setattr(quiet, "_now", lambda: (idle + 5, busy + 5, own + 5.01))
        assert quiet.foreign() == 0
        other = CpuLoad(side.pid)
        subprocess.run([sys.executable, "-c", BUSY], check=True)
        assert other.foreign() > 0
        assert side.stdin is not None
        side.stdin.close()


def test_a_name_with_spaces_and_parentheses_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import ctypes\nctypes.CDLL(None).prctl(15, b') 1 2 (x')\nprint(1, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as side:
        assert side.stdout is not None
        assert side.stdin is not None
        side.stdout.readline()
        assert 0 <= load.CpuLoad(side.pid).foreign() <= 1
        side.stdin.close()
