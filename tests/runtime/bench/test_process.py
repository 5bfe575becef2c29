"""A side's process works when asked, sleeps otherwise, and never outlives the benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.errors import BenchError, SideFailed
from ferrum.runtime.bench.process import SideProcess

PREFILL, DECODE = Case("prefill", 24, 2, 0, 1), Case("decode", 5, 2, 40, 1)


def state(pid: int) -> str:
    """R running, S sleeping, T stopped, Z ended, whether somebody has waited for it or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "Z"
    return stat.rpartition(")")[2].split()[0]


@pytest.fixture
def side(exported: Path) -> Iterator[SideProcess]:
    process = SideProcess("ferrum", ["ferrum", str(exported), "cpu"])
    yield process
    process.end()


def test_it_is_stopped_whenever_it_is_not_asked(side: SideProcess) -> None:
    assert state(side.pid) == "T"
    side.open(DECODE)
    assert state(side.pid) == "T"
    side.run()
    assert state(side.pid) == "T"


@pytest.mark.parametrize("case", [PREFILL, DECODE])
def test_repetitions_take_time_and_leave_the_caches_as_they_were(
    side: SideProcess, case: Case
) -> None:
    # The caches hold one repetition and no token more, so one that left any behind would fail.
    opened = side.open(case)
    assert opened["cache_tokens"] == 2 * 64 if case.kind == "decode" else 2 * 32
    side.warm_up()
    assert all(side.run() > 0 for _ in range(3))
    side.close()


def test_cases_follow_each_other_and_memory_begins_anew(side: SideProcess) -> None:
    side.open(PREFILL)
    side.warm_up()
    assert side.memory.peak.anonymous > 1 << 20
    assert side.memory.peak.file > 1 << 20
    side.close()
    side.memory.clear()
    side.open(DECODE)
    assert side.memory.peak.anonymous > 1 << 20
    side.close()


def test_a_profile_names_stages_with_shares_of_the_whole(side: SideProcess) -> None:
    side.open(PREFILL, profile=True)
    stages = side.profile()
    assert {"qkv", "gate_up", "down", "lm_head", "onnxruntime"} <= {row["stage"] for row in stages}
    assert sum(row["share"] for row in stages) == pytest.approx(1)
    assert all(row["seconds"] >= 0 for row in stages)


def test_what_the_runtime_refuses_is_one_line_and_the_side_lives_on(side: SideProcess) -> None:
    with pytest.raises(BenchError, match=r"ferrum.*context"):
        side.open(Case("decode", 5, 1, 5000, 1))
    side.open(DECODE)
    assert side.run() > 0


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such file"):
        SideProcess("ferrum", ["ferrum", str(tmp_path / "none.onnx"), "cpu"])


def test_a_process_that_ends_is_reported_with_its_last_words(side: SideProcess) -> None:
    with pytest.raises(SideFailed, match=r"its process ended: .*Error"):
        side._ask(do="open", case={"no": "case"}, profile=False)


def test_a_process_that_is_killed_is_reported(side: SideProcess) -> None:
    os.kill(side.pid, signal.SIGKILL)
    with pytest.raises(SideFailed, match="its process ended: status -9"):
        side.run()


def test_a_stopped_side_ends_with_a_benchmark_that_is_killed(exported: Path) -> None:
    code = (
        "from ferrum.runtime.bench.process import SideProcess\n"
        f"side = SideProcess('ferrum', ['ferrum', {str(exported)!r}, 'cpu'])\n"
        "print(side.pid, flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as bench:
        assert bench.stdout is not None
        pid = int(bench.stdout.readline())
        assert state(pid) == "T"
        bench.kill()
    deadline = time.monotonic() + 60
    while state(pid) != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
