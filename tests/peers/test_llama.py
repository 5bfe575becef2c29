"""llama.cpp as ferrum-bench drives it: it computes what ferrum does, and takes its turn."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_up_engine import made_up_engine

from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.llama import Llama, Piece
from ferrum.runtime.bench.process import SideProcess
from ferrum.runtime.bench_cli import main
from ferrum.runtime.session import Session
from ferrum.runtime.settings import Settings

IN_PLACE, REPACK = "llama.cpp in place", "llama.cpp repack"
PROMPT = np.random.default_rng(3).integers(1000, size=40).tolist()


@pytest.fixture(params=["in-place", "repack"])
def llama(sample: Path, request: pytest.FixtureRequest) -> Iterator[Llama]:
    opened = Llama(sample, repack=request.param == "repack")
    opened.open(sequences=2, length=64, threads=2)
    yield opened
    opened.close()


@pytest.fixture
def session(exported: Path) -> Session:
    return Session.open(exported, Settings(threads=1, kv_capacity=256))


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Two int8 arithmetics over the same weights: the same but for their rounding."""
    return float(np.corrcoef(a, b)[0, 1]) > 0.995


def test_prompts_and_steps_have_the_logits_that_ferrum_gives(
    llama: Llama, session: Session
) -> None:
    llama.decode([Piece(0, PROMPT[:25], 0, True), Piece(1, PROMPT[25:], 0, True)])
    first = session.prefill("a", PROMPT[:25])
    second = session.prefill("b", PROMPT[25:])
    assert alike(llama.logits(24), first)
    assert alike(llama.logits(39), second)
    assert not alike(llama.logits(24), second)
    llama.decode([Piece(0, [7], 25, True), Piece(1, [9], 15, True)])
    rows = session.decode_batch([("a", 7), ("b", 9)])
    assert alike(llama.logits(0), rows[0])
    assert alike(llama.logits(1), rows[1])


def test_a_trimmed_sequence_goes_on_as_if_never_longer(llama: Llama) -> None:
    llama.decode([Piece(0, PROMPT[:20], 0, False)])
    llama.decode([Piece(0, [5], 20, True)])
    before = llama.logits(0).copy()
    llama.decode([Piece(0, PROMPT[20:30], 21, True)])
    llama.trim(0, 20)
    llama.decode([Piece(0, [5], 20, True)])
    np.testing.assert_array_equal(llama.logits(0), before)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF and nothing more")
    with pytest.raises(BenchError, match=r"m\.gguf\] llama\.cpp refuses it"):
        Llama(tmp_path / "m.gguf", repack=False)


@pytest.mark.parametrize("mode", ["in-place", "repack"])
@pytest.mark.parametrize("case", [Case("prefill", 600, 2, 0, 2), Case("decode", 4, 3, 520, 2)])
def test_a_side_repeats_a_case_longer_than_a_step(sample: Path, mode: str, case: Case) -> None:
    side = SideProcess(mode, ["engine", str(sample), mode])
    try:
        assert side.open(case)["cache_tokens"] >= case.batch * case.length
        assert all(side.run() > 0 for _ in range(3))
    finally:
        side.end()


def test_ferrum_and_both_modes_are_measured_in_turn(
    exported: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prefill", "16", "--decode", "4", "--repeat", "2", "--batch", "1,2",
                 "--first-token", "--vs", str(sample), "--chart", str(tmp_path / "c.png"),
                 "--json", str(tmp_path / "run.json")]  # fmt: skip
    assert main([str(exported), *arguments]) == 0
    assert "times the better of the others" in capsys.readouterr().out
    report = json.loads((tmp_path / "run.json").read_text())
    sides = ["ferrum", IN_PLACE, REPACK]
    assert [row["side"] for row in report["rows"]] == 4 * sides
    for row in report["rows"]:
        assert len(row["seconds"]) == 2
        assert all(math.isfinite(taken) and taken > 0 for taken in row["seconds"])
        assert row["file"] > 0
        assert 0 < row["beside_caches"] < row["anonymous"]
    assert [ratio["what"] for ratio in report["ratios"]] == [
        "prefill 16", "prefill 16, batch 2", "decode 4 at 128", "decode 4 at 128, batch 2",
        "first token",
    ]  # fmt: skip
    by_case = {
        (row["case"]["kind"], row["case"]["batch"], row["side"]): np.array(row["seconds"])
        for row in report["rows"]
    }
    for ratio, (kind, batch) in zip(
        report["ratios"], [("prefill", 1), ("prefill", 2), ("decode", 1), ("decode", 2)],
        strict=False,
    ):  # fmt: skip
        speeds = {side: np.median(1 / by_case[kind, batch, side]) for side in (IN_PLACE, REPACK)}
        assert ratio["to"] == max(speeds, key=lambda side: speeds[side])
        rounds = by_case[kind, batch, ratio["to"]] / by_case[kind, batch, "ferrum"]
        assert ratio["ratio"]["median"] == pytest.approx(np.median(rounds))
    assert [start["side"] for start in report["first_token"]] == sides


def test_another_engine_is_measured_beside_both(
    exported: Path, sample: Path, tmp_path: Path
) -> None:
    library = made_up_engine(tmp_path)
    asked = ["--prefill", "16", "--decode", "4", "--repeat", "1", "--vs-mode", "in-place",
             "--first-token", "--vs", str(sample), "--vs-library", str(library),
             "--json", str(tmp_path / "run.json")]  # fmt: skip
    assert main([str(exported), *asked]) == 0
    report = json.loads((tmp_path / "run.json").read_text())
    sides = ["ferrum", IN_PLACE, "made up in place"]
    assert [row["side"] for row in report["rows"]] == 2 * sides
    assert [start["side"] for start in report["first_token"]] == sides
    # It computes nothing, so that nobody is faster.
    assert {ratio["to"] for ratio in report["ratios"]} == {"made up in place"}
