"""The sample model on ferrum's kernels: how it is run makes no difference to what it says."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrum.builder.build import BuildOptions, build
from ferrum.custom_ops.library import describe
from ferrum.runtime.llm import LLM
from ferrum.runtime.request import Completion
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.session import Session
from ferrum.runtime.settings import Settings

PROMPTS = [
    "def fibonacci(n):\n",
    "import os\nimport sys\n\n\nclass Reader:\n    def __init__(self, path):\n        self.path",
    "for i in range(10):\n    print(",
    '"""Tests of the parser."""\n\nimport unittest\n',
]
GREEDY = SamplingParams(max_tokens=40, ignore_eos=True)
SAMPLED = SamplingParams(max_tokens=40, temperature=0.8, top_p=0.95, seed=3, ignore_eos=True)

# Settings that change how a step runs, and never a bit of what comes out.
SWITCHES: list[dict[str, Any]] = [
    {"moe_path": "one"},
    {"moe_path": "few"},
    {"moe_path": "grouped"},
    {"moe_few_max": 0},
    {"moe_gate_up": "unfused"},
    {"page_in": "experts"},
    {"threads": 1},
    {"spin": False},
    {"profile": True},
    {"block_size": 5},
    {"max_sequences": 1},
    {"step_tokens": 16},
    {"prefix_reuse": False},
    {"check_blocks": True},
    {"trace": "blk.*"},
    {"expert_load": True},
    {"isa": describe()["isas"][0]},
]
# Changes that round float sums otherwise, what they change, and how close two logits must be for
# that to decide: where activations are rounded to int8, a last bit can become a step of int8, some
# hundredths of a logit.
EXACT = {"arithmetic": "exact"}
ROUNDINGS: list[tuple[dict[str, Any], dict[str, Any], float]] = [
    ({}, {"route": "host"}, 0.1),
    ({}, EXACT, 0.1),
    *(({}, {"isa": isa}, 0.1) for isa in describe()["isas"][1:]),
    *((EXACT, {"isa": isa}, 0.01) for isa in describe()["isas"][1:]),
]


def texts(path: Path, **settings: Any) -> list[list[int]]:
    with LLM(path, **settings) as llm:
        params = [GREEDY] * len(PROMPTS) + [SAMPLED] * len(PROMPTS)
        return [result.token_ids for result in llm.generate(PROMPTS * 2, params)]


@cache
def plain(path: Path) -> list[list[int]]:
    return texts(path)


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_a_switch_changes_no_token(exported: Path, switch: dict[str, Any]) -> None:
    assert texts(exported, **switch) == plain(exported)


@pytest.mark.parametrize("settings", [{}, {"kernels": "reference"}], ids=str)
def test_experts_for_the_cpu_give_the_same_bits_on_the_cpu(
    exported: Path, sample: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(cpu_experts=2, progress=False))
    ids = list(range(40, 70))
    found = [
        np.concatenate([session.prefill_all("a", ids), session.decode("a", 7)[None]])
        for session in (Session.open(path, Settings(**settings)) for path in
                        (exported, tmp_path / "m.onnx"))
    ]  # fmt: skip
    np.testing.assert_array_equal(found[1], found[0])


def rows(path: Path, ids: list[int], **settings: Any) -> np.ndarray:
    session = Session.open(path, Settings(**settings))
    return session.prefill_all("a", ids)


def leads(exported: Path, usual: dict[str, Any], path: Path, other: dict[str, Any]) -> np.ndarray:
    """Along the plain text, 160 times: by how much, with the usual settings, the likeliest token
    leads over that of another export or other settings; 0 where both are one."""
    with LLM(exported) as llm:
        prompts = [llm.tokenizer.encode(prompt) for prompt in PROMPTS]
    found = []
    for prompt, tokens in zip(prompts, plain(exported), strict=False):
        ids, asked = prompt + tokens, slice(len(prompt) - 1, -1)
        logits = rows(exported, ids, **usual)[asked]
        chosen = rows(path, ids, **other)[asked].argmax(-1)
        found.append(logits.max(-1) - logits[np.arange(len(tokens)), chosen])
    return np.concatenate(found)


@pytest.mark.parametrize(("base", "change", "close"), ROUNDINGS, ids=str)
def test_other_rounding_chooses_otherwise_only_at_near_ties(
    exported: Path, base: dict[str, Any], change: dict[str, Any], close: float
) -> None:
    """Along the plain text another choice is made seldom, and only between close logits."""
    lost = leads(exported, base, exported, {**base, **change})
    assert lost.max() < close
    assert np.count_nonzero(lost) <= 4  # of 160


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_activations_of_2_bytes_choose_otherwise_only_at_near_ties(
    exported: Path, sample: Path, tmp_path: Path, dtype: str
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(dtype=dtype, progress=False))
    lost = leads(exported, EXACT, tmp_path / "m.onnx", EXACT)
    assert lost.max() < 0.1
    assert np.count_nonzero(lost) <= 4  # of 160


def test_reference_bodies_and_exact_kernels_agree(exported: Path) -> None:
    with LLM(exported) as llm:
        prompt = llm.tokenizer.encode(PROMPTS[0])
    tokens = plain(exported)[0]
    exact = rows(exported, prompt + tokens, arithmetic="exact")
    stock = rows(exported, prompt + tokens, kernels="reference")
    # Both are float32 over caches in float16: they differ by rounding.
    np.testing.assert_allclose(stock, exact, rtol=0, atol=0.02)


def feed(session: Session, seq: str, ids: list[int], size: int) -> np.ndarray:
    for start in range(0, len(ids), size):
        logits = session.prefill(seq, ids[start : start + size], start=start)
    return logits


@pytest.mark.parametrize("arithmetic", ["fast", "exact"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_chunks_and_company_change_no_bit(
    sample: Path, tmp_path: Path, dtype: str, arithmetic: Any
) -> None:
    path = tmp_path / "m.onnx"
    build(sample, path, BuildOptions(dtype=dtype, progress=False))
    session = Session.open(path, Settings(arithmetic=arithmetic))
    with LLM(path) as llm:
        ids = llm.tokenizer.encode("".join(PROMPTS) * 3)
        others = [llm.tokenizer.encode(prompt) for prompt in PROMPTS]
    assert len(ids) > 100
    whole = session.prefill("whole", ids)
    assert np.array_equal(feed(session, "sevens", ids, 7), whole)
    assert np.array_equal(feed(session, "one by one", ids, 1), whole)
    assert np.array_equal(session.prefill_all("all", ids)[-1], whole)
    # Mixed: chunks of the prompt share each step with decodes and prefills of others.
    for i, other in enumerate(others):
        session.prefill(f"other {i}", other)
    session.prefill("mixed", ids[:3])
    for start in range(3, len(ids), 11):
        company = [(f"other {i}", [start % 50 + i] * (i + 1)) for i in range(len(others))]
        logits = session.step([*company[:2], ("mixed", ids[start : start + 11]), *company[2:]])
        mixed = logits[2].copy()
    assert np.array_equal(mixed, whole)


def test_texts_are_the_same_alone_and_together(exported: Path) -> None:
    with LLM(exported) as llm:
        alone = [llm.generate(prompt, SAMPLED)[0].text for prompt in PROMPTS]
        together = [result.text for result in llm.generate(PROMPTS, SAMPLED)]
    assert together == alone


def test_texts_survive_preemption(exported: Path) -> None:
    """A pool too small for all has the youngest computed anew, with the same outcome."""
    with LLM(exported, kv_capacity=160, block_size=8) as llm:
        together = [result.token_ids for result in llm.generate(PROMPTS * 2, GREEDY)]
        assert llm.engine.scheduler.preemptions > 0
    assert together == plain(exported)[: len(PROMPTS)] * 2


def prefilled(llm: LLM, prompts: list[list[int]]) -> tuple[list[Completion], int]:
    """What becomes of prompts that run together, and how many tokens of prompts the steps took."""
    requests, count = [llm.engine.add(prompt, SAMPLED) for prompt in prompts], 0
    while not llm.engine.idle:
        llm.engine.step()
        assert llm.engine.last_step is not None
        count += llm.engine.last_step.prefill_tokens
    return [request.completion() for request in requests], count


def test_a_second_chat_turn_says_the_same_and_runs_only_what_is_new(exported: Path) -> None:
    turns, before = [{"role": "user", "content": "Write a parser. " * 20}], 0
    with LLM(exported, block_size=16) as llm, LLM(exported, prefix_reuse=False) as plainly:
        for _ in range(3):
            ids = llm.tokenizer.encode(llm.chat_prompt(turns), add_bos=False)
            (reused,), count = prefilled(llm, [ids])
            (anew,), all_of_it = prefilled(plainly, [ids])
            assert reused.token_ids == anew.token_ids
            assert (all_of_it, anew.cached_tokens) == (len(ids), 0)
            assert count == len(ids) - reused.cached_tokens
            # The answer's text may be cut into other tokens than it was generated in, so that of
            # the turn before only the prompt is sure to be found.
            assert reused.cached_tokens >= before // 16 * 16
            before = len(ids)
            turns += [{"role": "assistant", "content": reused.text},
                      {"role": "user", "content": "Now with tests."}]  # fmt: skip


def test_a_shared_system_prompt_is_run_once_and_says_the_same(exported: Path) -> None:
    def prompt(question: str) -> list[int]:
        messages = [{"role": "system", "content": "You answer in Python. " * 30},
                    {"role": "user", "content": question}]  # fmt: skip
        return llm.tokenizer.encode(llm.chat_prompt(messages), add_bos=False)

    with LLM(exported, step_tokens=64) as llm, LLM(exported, prefix_reuse=False) as plainly:
        prompts = [prompt(f"Write function number {i}.") for i in range(8)]
        together, count = prefilled(llm, prompts)
        anew, all_of_it = prefilled(plainly, prompts)
        assert [c.token_ids for c in together] == [c.token_ids for c in anew]
        assert all_of_it == sum(map(len, prompts))
        differing = [len(set(tokens)) > 1 for tokens in zip(*prompts, strict=False)]
        shared = differing.index(True) // 32 * 32
        assert shared > 100
        assert [c.cached_tokens for c in together] == [0] + [shared] * 7
        assert count == all_of_it - 7 * shared
        again, count = prefilled(llm, prompts)
        assert [c.token_ids for c in again] == [c.token_ids for c in anew]
        assert count == sum((len(p) - 1) % 32 + 1 for p in prompts)


def test_preempted_ones_find_their_blocks(exported: Path) -> None:
    counts = {}
    for reuse in (True, False):
        with LLM(exported, kv_capacity=160, block_size=8, prefix_reuse=reuse) as llm:
            prompts = [llm.tokenizer.encode(prompt) for prompt in PROMPTS]
            completions, counts[reuse] = prefilled(llm, prompts)
            assert llm.engine.scheduler.preemptions > 0
            assert [c.token_ids for c in completions] == plain(exported)[len(PROMPTS) :]
            assert counts[reuse] > sum(map(len, prompts))
    assert counts[True] < counts[False]


def test_blocks_from_a_file_are_as_good_as_computed_ones(exported: Path, tmp_path: Path) -> None:
    ids = list(range(40, 140))
    with LLM(exported) as llm:
        before = llm.generate(ids, SAMPLED)[0]
        llm.save_cache(tmp_path / "cache")
    with LLM(exported) as llm:
        llm.load_cache(tmp_path / "cache")
        after = llm.generate(ids, SAMPLED)[0]
    assert (after.token_ids, after.cached_tokens) == (before.token_ids, 96)


def test_scores_are_those_of_single_steps(exported: Path) -> None:
    with LLM(exported) as llm:
        ids = llm.tokenizer.encode(PROMPTS[1])
        scores = llm.score(ids)
        logits = [llm.session.prefill("a", ids[:1])]
        logits += [llm.session.decode("a", token) for token in ids[1:-1]]
    for row, token, score in zip(logits, ids[1:], scores, strict=True):
        wide = row.astype(np.float64)
        exact = wide[token] - wide.max() - np.log(np.exp(wide - wide.max()).sum())
        assert score == pytest.approx(exact, abs=1e-6)
