"""Named values of the graph, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_export import EMBED

from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.trace import TraceError

GOING_ON = {"ignore_eos": True, "max_tokens": 5}


def test_values_come_with_the_tokens_that_they_are_of(
    tiny_llm: Callable[..., LLM], tmp_path: Path
) -> None:
    llm = tiny_llm(trace=("blk.0.key.rows", "blk.1.*.sum"), step_tokens=16)
    prompts = [[1, 2, 3], list(range(20))]
    results = llm.generate(prompts, SamplingParams(**GOING_ON))
    llm.trace.save(tmp_path / "trace.npz")
    saved = np.load(tmp_path / "trace.npz")
    assert set(saved) == {"step", "row", "position", "token", "blk.0.key.rows",
                          "blk.1.key.sum", "blk.1.value.sum"}  # fmt: skip
    run = [prompt + result.token_ids[:-1] for prompt, result in zip(prompts, results, strict=True)]
    assert len(saved["token"]) == sum(map(len, run))
    assert sorted(saved["token"].tolist()) == sorted(itertools.chain(*run))
    assert np.array_equal(saved["blk.0.key.rows"], EMBED[0, 0][saved["token"]])
    # The first step holds the whole first prompt and the beginning of the second.
    first = saved["step"] == 0
    assert saved["row"][first].tolist() == [0] * 3 + [1] * 13
    assert saved["position"][first].tolist() == [*range(3), *range(13)]
    # A value with a row per sequence has one for every sequence of every step.
    steps = len(np.unique(np.stack([saved["step"], saved["row"]]), axis=1).T)
    assert len(saved["blk.1.key.sum"]) == steps


def test_a_trace_changes_no_token(tiny_llm: Callable[..., LLM]) -> None:
    params = SamplingParams(**GOING_ON)
    plain = tiny_llm().generate([1, 2, 3], params)[0]
    assert tiny_llm(trace="blk.*").generate([1, 2, 3], params)[0].token_ids == plain.token_ids


@pytest.mark.parametrize(
    ("pattern", "near"), [("blk.0.key.row", r"blk\.0\.key\.rows"), ("nonsense", r"such as \w+")]
)
def test_an_unknown_name_is_answered_with_those_near(
    tiny_llm: Callable[..., LLM], pattern: str, near: str
) -> None:
    with pytest.raises(TraceError, match=near) as caught:
        tiny_llm(trace=("blk.0.key.rows", pattern))
    assert "\n" not in str(caught.value)


def test_without_names_there_is_no_trace(tiny_llm: Callable[..., LLM]) -> None:
    with pytest.raises(RuntimeError, match="no value is traced"):
        _ = tiny_llm().trace


def test_the_load_counts_each_choice_of_an_expert(exported: Path) -> None:
    with LLM(exported, expert_load=True, trace="blk.2.expert_ids") as llm:
        result = llm.generate("import os\n", SamplingParams(**GOING_ON))[0]
        load, traced = llm.expert_load(), llm.trace.arrays()
    tokens = result.prompt_tokens + len(result.token_ids) - 1
    assert load.shape == (4, 16)
    assert load.sum(1).tolist() == [tokens * 4] * 4
    assert load[2].tolist() == np.bincount(traced["blk.2.expert_ids"].ravel(), None, 16).tolist()
