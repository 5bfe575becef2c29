"""A profile's rows add up to the time of the steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrum.custom_ops.library import describe
from ferrum.runtime.llm import LLM
from ferrum.runtime.profile import STAGES, Clock, stages, table
from ferrum.runtime.sampler import SamplingParams


def test_rows_are_the_library_s_stages_and_what_python_adds() -> None:
    clock = Clock(steps=4, totals={"step": 10_000_000, "graph": 7_000_000, "sample": 1_000_000})
    library = {
        "down": {"calls": 8, "seconds": 0.002},
        "qkv": {"calls": 8, "seconds": 0.003},
        "silu": {"calls": 0, "seconds": 0.0},
    }
    rows = {row.name: row for row in stages(clock, library)}
    assert list(rows) == ["qkv", "down", "onnxruntime", "sample", "python"]
    assert rows["onnxruntime"].seconds == pytest.approx(0.002)
    assert rows["python"].seconds == pytest.approx(0.002)
    assert sum(row.seconds for row in rows.values()) == pytest.approx(0.010)
    assert sum(row.share for row in rows.values()) == pytest.approx(1)
    assert rows["qkv"].share == pytest.approx(0.3)
    text = table(list(rows.values()), clock.steps)
    assert len(text.splitlines()) == len(rows) + 2
    assert "30.0%" in text


def test_every_stage_of_the_library_has_its_place() -> None:
    assert set(describe()["stages"]) <= set(STAGES)


def test_a_model_s_profile_has_all_stages_and_leaves_the_warm_up_out(exported: Path) -> None:
    with LLM(exported, profile=True) as llm:
        llm.prepare()
        assert llm.clock.steps == 0
        llm.generate("import os\n", SamplingParams(max_tokens=6, ignore_eos=True))
        rows = {row.name: row for row in llm.profile()}
        assert llm.clock.steps == 6
    assert {"embed", "norm", "qkv", "attention", "o", "router", "route", "gate_up", "down",
            "lm_head", "onnxruntime", "sample", "python"} <= set(rows)  # fmt: skip
    assert rows["attention"].calls == 4 * 6
    assert rows["lm_head"].calls == 6


def test_without_the_setting_only_python_s_side_is_known(exported: Path) -> None:
    with LLM(exported) as llm:
        llm.generate("import os\n", SamplingParams(max_tokens=2))
        assert [row.name for row in llm.profile()] == ["onnxruntime", "sample", "python"]
