"""A benchmark decides what can be measured, and refuses the rest before it begins."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferrum.runtime.bench import benchmark as module
from ferrum.runtime.bench.benchmark import Options, benchmark
from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.memory import Memory
from ferrum.runtime.bench.run import Repetition, Runner

IN_PLACE, REPACK = "llama.cpp in place", "llama.cpp repack"
OPTIONS = Options(
    prefill=[8], decode=[4], contexts=[16], batches=[1], threads=[1], repeat=2, warm_ups=1,
    retries=0, vs=None, vs_modes=("in-place", "repack"), vs_libraries=(),
    profile=False, first_token=False,
)  # fmt: skip


class FakeRunner(Runner):
    """Takes no measurements: notes how it was asked to, and makes up the same for all."""

    plans: list[tuple[str, list[str]]]

    def together(self, sides: Any, cases: Any, rounds: Any) -> None:
        self.plans.append(("together", [side.name for side in sides]))
        self._make_up([side.name for side in sides], cases)

    def apart(self, stay: Any, alone: Any, cases: Any, rounds: int, prepare: Any) -> None:
        names = [*(side.name for side in stay), *(start().name for start in alone)]
        self.plans.append(("apart", names))
        self._make_up(names, cases)

    def _make_up(self, names: list[str], cases: Any) -> None:
        for case in cases:
            for name in names:
                found = self.measurements[case, name]
                found.repetitions = [Repetition(0, 0.5, 4e10, 4e10, 0.4)]
                found.memory = Memory(1 << 30, 1 << 31)


class FakeProcess:
    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name

    def end(self) -> None:
        pass


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """How the runner was asked; no process is started, and llama.cpp is taken as installed."""
    FakeRunner.plans = []
    monkeypatch.setattr(module, "Runner", FakeRunner)
    monkeypatch.setattr(module, "SideProcess", FakeProcess)
    monkeypatch.setattr(module, "require_llama", lambda: "1.2.3")
    return FakeRunner.plans


@pytest.fixture
def run(exported: Path) -> Callable[..., Any]:
    def call(**changes: Any) -> Any:
        return benchmark(exported, replace(OPTIONS, **changes), "ferrum-bench", lambda text: None)

    return call


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: size)


def test_alone_it_measures_ferrum(run: Any, plans: Any) -> None:
    report = run()
    assert plans == [("together", ["ferrum"])]
    assert [(row.case.kind, row.side) for row in report.rows] == [
        ("prefill", "ferrum"), ("decode", "ferrum"),
    ]  # fmt: skip
    assert report.ratios == ()
    assert report.model["layers"] == 4


def test_with_llama_all_run_together_where_a_second_copy_has_room(
    run: Any, plans: Any, sample: Path
) -> None:
    report = run(vs=sample)
    assert plans == [("together", ["ferrum", IN_PLACE, REPACK])]
    assert report.notes[0].startswith("llama-cpp-python 1.2.3")
    assert len(report.ratios) == 2


def test_without_room_the_repacked_side_runs_apart_and_the_report_says_so(
    run: Any, plans: Any, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, (1 << 30) + 2 * sample.stat().st_size)
    report = run(vs=sample)
    assert plans == [("apart", ["ferrum", IN_PLACE, REPACK])]
    assert any("no room beside the file" in note for note in report.notes)


def test_a_copy_of_the_weights_needs_room_of_its_own(
    run: Any, plans: Any, exported: Path, sample: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    size = sample.stat().st_size
    beside = next(exported.parent.glob("*.gguf"))
    os.link(beside, tmp_path / "link.gguf")
    shutil.copyfile(beside, tmp_path / "copy.gguf")
    free(monkeypatch, (1 << 30) + 5 * size // 2)
    run(vs=tmp_path / "link.gguf")
    run(vs=tmp_path / "copy.gguf")
    assert [how for how, _ in plans] == ["together", "apart"]


def test_one_mode_of_llama_alone(run: Any, plans: Any, sample: Path) -> None:
    run(vs=sample, vs_modes=("in-place",))
    assert plans == [("together", ["ferrum", IN_PLACE])]


def test_other_programs_and_batches_are_spoken_of(run: Any, plans: Any) -> None:
    notes = run(batches=[1, 4]).notes
    assert any(
        "4 of 4 repetitions were disturbed" in note and "up to 40%" in note for note in notes
    )
    assert any(note.startswith("batches: ") for note in notes)
    assert not any(note.startswith("batches: ") for note in run().notes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prefill": [2000]}, r"prefill 2,000.*2,000 tokens -> at most 1,024"),
        ({"contexts": [1021]}, r"decode 4 at 1,021.*1,025 tokens -> at most 1,024"),
        ({"prefill": [], "decode": []}, "none of both"),
    ],
)
def test_what_the_model_cannot_hold_is_refused(
    run: Any, plans: Any, changes: Any, says: str
) -> None:
    with pytest.raises(BenchError, match=says):
        run(**changes)
    assert plans == []


def test_other_weights_than_the_export_s_are_refused(
    run: Any, plans: Any, sample: Path, tmp_path: Path
) -> None:
    content = bytearray(sample.read_bytes())
    content[100] ^= 1  # in the header
    (tmp_path / "other.gguf").write_bytes(content)
    with pytest.raises(BenchError, match=r"other\.gguf -> the GGUF that .* was made from"):
        run(vs=tmp_path / "other.gguf")
    with pytest.raises(BenchError, match=r"none\.gguf cannot be read"):
        run(vs=tmp_path / "none.gguf")
    assert plans == []
