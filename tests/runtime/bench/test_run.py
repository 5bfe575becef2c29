"""Sides are run in turn, round by round, with a reading of their limit before and after each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.memory import Memory
from ferrum.runtime.bench.process import SideProcess
from ferrum.runtime.bench.run import Repetition, Runner

CASES = [Case("prefill", 8, 1, 0, 2), Case("decode", 4, 1, 8, 2)]


class Log:
    """Limits and sides that only note what was asked of them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.rates = iter(float(n) for n in range(1, 1000))

    def now(self, case: Case) -> float:
        self.events.append("read")
        return next(self.rates)

    def side(self, name: str) -> Any:
        return FakeSide(name, self.events)


class FakeSide:
    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self.pid, self._events = name, os.getpid(), events
        self.memory = self
        self.peak = Memory(100, 200)
        events.append(f"start {name}")

    def open(self, case: Case, *, profile: bool = False) -> dict[str, Any]:
        self._events.append(f"open {self.name} {case.kind}{' profile' if profile else ''}")
        return {"cache_tokens": 16}

    def warm_up(self) -> None:
        self._events.append(f"warm {self.name}")

    def run(self) -> float:
        self._events.append(f"run {self.name}")
        return 0.5

    def profile(self) -> list[dict[str, Any]]:
        return [{"stage": "all", "seconds": 1.0, "share": 1.0}]

    def close(self) -> None:
        self._events.append(f"close {self.name}")

    def end(self) -> None:
        self._events.append(f"end {self.name}")


@pytest.fixture
def log() -> Log:
    return Log()


def runner(log: Log, warm_ups: int = 1, retries: int = 0) -> Runner:
    return Runner(log, warm_ups, retries, lambda text: None)  # type: ignore[arg-type]


def test_each_round_runs_each_side_and_the_first_changes(log: Log) -> None:
    sides: list[SideProcess] = [log.side("a"), log.side("b")]
    runner(log).together(sides, CASES[:1], range(3))
    assert [e for e in log.events if e.startswith("run")] == [
        "run a", "run b", "run b", "run a", "run a", "run b",
    ]  # fmt: skip
    start = log.events.index("open a prefill")
    assert log.events[start : start + 7] == [
        "open a prefill", "warm a", "open b prefill", "warm b", "read", "run a", "read",
    ]  # fmt: skip


def test_a_repetition_has_the_limits_just_before_and_after_it(log: Log) -> None:
    work = runner(log)
    work.together([log.side("a")], CASES[:1], range(2))
    first, second = work.measurements[CASES[0], "a"].repetitions
    assert (first.before, first.after, first.limit) == (1, 2, 1.5)
    assert (second.before, second.after) == (3, 4)
    assert (first.round, second.round, first.seconds) == (0, 1, 0.5)
    assert 0 <= first.foreign_cpu <= 1


class FakeLoad:
    """Other programs' share of the CPU time, repetition by repetition."""

    shares: Iterator[float]

    def __init__(self, pid: int) -> None:
        pass

    def foreign(self) -> float:
        return next(self.shares)


def test_a_round_that_others_disturbed_is_run_again_by_all_sides(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrum.runtime.bench.run.CpuLoad", FakeLoad)
    rounds = [(0.0, 0.5), (0.0, 0.09)], [(0.1, 0.0), (0.2, 0.0), (0.3, 0.01)]
    FakeLoad.shares = iter(share for tries in rounds for shares in tries for share in shares)
    work = runner(log, retries=2)
    work.together([log.side("a"), log.side("b")], CASES[:1], range(2))
    a, b = (work.measurements[CASES[0], name] for name in "ab")
    assert [one.round for one in a.repetitions] == [0, 1]
    assert [one.foreign_cpu for one in a.repetitions] == [0.0, 0.01]  # b begins the second round
    assert [one.foreign_cpu for one in b.repetitions] == [0.09, 0.3]
    assert (a.again, b.again) == (3, 3)
    assert [one.disturbed for one in b.repetitions] == [False, True]


def test_of_short_repetitions_no_share_can_be_told() -> None:
    assert not Repetition(0, 0.05, 1, 1, 0.9).disturbed
    assert Repetition(0, 0.5, 1, 1, 0.9).disturbed


def test_warm_ups_come_as_often_as_asked_and_are_not_timed(log: Log) -> None:
    work = runner(log, warm_ups=3)
    work.together([log.side("a")], CASES[:1], range(1))
    assert log.events.count("warm a") == 3
    assert len(work.measurements[CASES[0], "a"].repetitions) == 1
    assert work.measurements[CASES[0], "a"].memory == Memory(100, 200)
    assert work.measurements[CASES[0], "a"].cache_tokens == 16


def test_a_side_without_room_comes_and_goes_in_every_round(log: Log) -> None:
    work = runner(log)
    stay = [log.side("a"), log.side("b")]
    prepare = lambda: log.events.append("prepare")  # noqa: E731
    work.apart(stay, [lambda: log.side("large")], CASES, 2, prepare)
    large = [e for e in log.events if "large" in e or e == "prepare"]
    one_round = ["prepare", "start large", "open large prefill", "warm large", "run large",
                 "close large", "open large decode", "warm large", "run large", "close large",
                 "end large"]  # fmt: skip
    assert large == 2 * one_round
    for case in CASES:
        for name in ("a", "b", "large"):
            assert [r.round for r in work.measurements[case, name].repetitions] == [0, 1]
    loaded = False
    for event in log.events:
        loaded = event == "start large" or (loaded and event != "end large")
        assert not (loaded and event in ("run a", "run b"))


def test_a_side_that_fails_while_alone_is_ended(log: Log) -> None:
    large = log.side("large")
    large.run = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        runner(log).apart([log.side("a")], [lambda: large], CASES, 1, lambda: None)
    assert log.events[-1] == "end large"


def test_a_profile_is_a_run_of_its_own(log: Log) -> None:
    work = runner(log)
    work.profile(log.side("a"), CASES)
    assert "open a decode profile" in log.events
    assert work.measurements[CASES[1], "a"].stages == [
        {"stage": "all", "seconds": 1.0, "share": 1.0}
    ]
    assert work.measurements[CASES[1], "a"].repetitions == []
