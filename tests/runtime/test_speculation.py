"""A draft is verified while its chance of being right is above what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.speculation import DraftCost, Drafter

REPEATED = [1, 2, 3, 4, 5, 6, 7, 8] * 4


def test_free_drafts_are_all_taken() -> None:
    assert Drafter().draft(REPEATED, 5, cost=0.0) == [1, 2, 3, 4, 5]


def test_drafts_that_cost_as_much_as_a_plain_step_are_not_taken() -> None:
    assert Drafter().draft(REPEATED, 5, cost=1.0) == []


def test_the_dearer_a_draft_the_fewer_are_taken() -> None:
    lengths = [len(Drafter().draft(REPEATED, 8, cost=c)) for c in (0.3, 0.5, 0.7, 0.85)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1] > 0


def test_a_sequence_whose_drafts_are_wrong_stops_drafting_and_tries_again_later() -> None:
    drafter = Drafter()
    for _ in range(12):
        drafter.verified(4, 0)
    lengths = [len(drafter.draft(REPEATED, 4, cost=0.3)) for _ in range(80)]
    assert set(lengths) == {0, 1}
    assert 2 <= sum(lengths) <= 3


def test_a_sequence_whose_drafts_are_right_drafts_more() -> None:
    drafter = Drafter(chance=0.4)
    few = len(drafter.draft(REPEATED, 8, cost=0.3))
    for _ in range(8):
        drafter.verified(2, 2)
    assert len(drafter.draft(REPEATED, 8, cost=0.3)) > few


def test_a_drafts_cost_is_its_time_over_that_of_a_plain_token() -> None:
    cost = DraftCost()
    assert not cost.knows(2)
    cost.observe(2, 0, 0.2)  # 0.1 s for each of two tokens
    assert cost.knows(2)
    for _ in range(60):
        cost.observe(2, 4, 0.4)  # 0.05 s for each of four drafts
    assert cost.relative == pytest.approx(0.5, rel=1e-3)


def test_a_step_with_drafts_counts_for_nothing_before_a_plain_one_was_timed() -> None:
    cost = DraftCost()
    cost.observe(1, 3, 1.0)
    assert cost.relative == 0.0


PROMPTS = [
    "class Node:\n    def __init__(self",
    "import os\nimport sys\nimport os\nimport sys\nimport",
    "def add(a, b):\n    return a + b\n\ndef add(a, b):\n    return",
]
REPEATS = "for i in range(10):\n    print(i)\n" * 6


class Free(DraftCost):
    """Drafts that are always worth verifying, whatever the clock says."""

    relative = 0.0

    def knows(self, sequences: int) -> bool:
        return True


def speculating(exported: Path, most: int, **settings: Any) -> LLM:
    """The sample with drafts, as many as there can be."""
    llm = LLM(exported, threads=1, speculate=most, check_blocks=True, **settings)
    llm.engine.speculation.cost = Free()
    return llm


def _texts(llm: LLM, prompts: list[str], params: list[SamplingParams]) -> list[list[int]]:
    return [done.token_ids for done in llm.generate(prompts, params)]


@pytest.mark.parametrize(
    "how",
    [
        SamplingParams(max_tokens=120),
        SamplingParams(max_tokens=120, repetition_penalty=1.1, logprobs=2),
        SamplingParams(max_tokens=120, temperature=0.8, top_k=20, seed=3),
        SamplingParams(max_tokens=57, stop=("print",)),
    ],
    ids=["greedy", "penalty", "drawn", "stop string"],
)
def test_drafts_never_change_a_token(exported: Path, how: SamplingParams) -> None:
    params = [how] * (len(PROMPTS) + 1)
    prompts = [*PROMPTS, REPEATS]
    with LLM(exported, threads=1) as llm:
        expected = llm.generate(prompts, params)
    with speculating(exported, 5) as llm:
        found = llm.generate(prompts, params)
        assert llm.engine.speculation.drafted > llm.engine.speculation.accepted > 0
        assert llm.session.pool.used == 0
    for before, now in zip(expected, found, strict=True):
        assert now.token_ids == before.token_ids
        assert (now.text, now.finish_reason) == (before.text, before.finish_reason)
        assert now.logprobs == before.logprobs


def test_drafts_change_nothing_where_blocks_are_short(exported: Path) -> None:
    params = [SamplingParams(max_tokens=60)] * 4
    prompts = [*PROMPTS, REPEATS]
    with LLM(exported, threads=1) as llm:
        expected = _texts(llm, prompts, params)
    with speculating(exported, 8, kv_capacity=256, block_size=16) as llm:
        assert _texts(llm, prompts, params) == expected
        assert llm.engine.scheduler.preemptions > 0
        assert llm.engine.speculation.accepted > 0


def test_accepted_drafts_save_steps(exported: Path) -> None:
    with speculating(exported, 6) as llm:
        llm.generate(REPEATS, SamplingParams(max_tokens=100))
        assert llm.clock.steps + llm.engine.speculation.accepted == 100
        assert llm.engine.speculation.accepted > 20


def test_a_masked_request_gets_no_drafts(exported: Path) -> None:
    params = SamplingParams(max_tokens=40, mask=lambda generated: None)
    with speculating(exported, 6) as llm:
        llm.generate(REPEATS, params)
        assert llm.engine.speculation.drafted == 0


def test_no_drafts_are_made_unless_asked_for(exported: Path) -> None:
    with LLM(exported, threads=1) as llm:
        llm.generate(REPEATS, SamplingParams(max_tokens=40))
        assert llm.engine.speculation.drafted == 0
