"""The real engine over the tiny export: whatever happens to whom, everyone gets its own tokens."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tiny_export import VOCABULARY, expected_logits, greedy

from ferrum.runtime.binding import GraphError
from ferrum.runtime.block_check import check_blocks
from ferrum.runtime.engine import Engine
from ferrum.runtime.llm import LLM
from ferrum.runtime.logits import LogitsRow
from ferrum.runtime.request import Request
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.session import Session
from ferrum.runtime.session_errors import CacheFull, SessionError
from ferrum.runtime.speculation import DraftCost, Drafter

CAPACITY, LONGEST = 36, 24
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


def even(generated: Sequence[int]) -> np.ndarray:
    """A mask: after an even number of tokens an even one."""
    return np.arange(VOCABULARY) % 2 == len(generated) % 2


def expected(prompt: list[int], count: int, *, masked: bool) -> list[int]:
    tokens = list(prompt)
    for i in range(count):
        logits = expected_logits(tokens)
        if masked:
            logits[np.arange(VOCABULARY) % 2 != i % 2] = -np.inf
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :]


class LostLogits:
    """What a step gave, and nobody can have."""

    def rows(self, scales: Sequence[float | None]) -> list[LogitsRow]:
        raise GraphError("[graph] no logits")


class Engines(RuleBasedStateMachine):
    """One model; each example has caches and an engine of its own."""

    llm: LLM
    file: Path
    seen: Counter[str]

    @initialize()
    def start(self) -> None:
        self.live: dict[Request, list[int]] = {}
        self.ids: dict[str, list[int]] = {}
        self.file.unlink(missing_ok=True)
        self.llm.session = self.session = Session(self.llm._graph, self.llm.settings)
        self.llm.engine = self.engine = Engine(self.session, self.llm.tokenizer)
        self.engine.speculation.cost = Free()

    @rule(prompt=TOKENS, wanted=st.integers(1, 10), priority=st.integers(-1, 1),
          masked=st.booleans())  # fmt: skip
    def add(self, prompt: list[int], wanted: int, priority: int, masked: bool) -> None:
        mask = even if masked else None
        params = SamplingParams(max_tokens=wanted, ignore_eos=True, mask=mask)
        request = self.engine.add(prompt, params, priority)
        self.live[request] = list(prompt)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), more=TOKENS, wanted=st.integers(1, 10), masked=st.booleans())
    def add_one_that_begins_alike(
        self, data: st.DataObject, more: list[int], wanted: int, masked: bool
    ) -> None:
        request = data.draw(st.sampled_from(list(self.live)))
        begin = request.tokens[: data.draw(st.integers(1, len(request.tokens)))]
        self.add([*begin, *more][:LONGEST], wanted, 0, masked)

    @rule(count=st.integers(1, 6))
    def step(self, count: int) -> None:
        for _ in range(count):
            try:
                self.engine.step()
            except CacheFull:
                assert self.ids
            self._collect()

    def _collect(self) -> None:
        for request in [r for r in self.live if r.finish_reason is not None]:
            prompt = self.live.pop(request)
            completion = request.completion()
            if completion.finish_reason == "length":
                masked, count = request.mask is not None, len(completion.token_ids)
                assert completion.token_ids == expected(prompt, count, masked=masked)
                assert count == request.params.max_tokens
                assert completion.cached_tokens < len(prompt)
            else:
                assert completion.finish_reason == "cancelled"

    @rule(when=st.sampled_from(["before the run", "after the run", "at the logits"]))
    def a_step_fails(self, when: str) -> None:
        run = self.session._binding.run

        def fails(step: Any) -> LostLogits:
            if when != "before the run":
                run(step)
            if when != "at the logits":
                raise GraphError("[graph] no")
            return LostLogits()

        with (
            _replaced(self.session._binding, "run", fails),
            contextlib.suppress(GraphError, CacheFull),
        ):
            self.engine.step()
        self._collect()

    @rule(after=st.integers(0, 3), within=st.booleans())
    def a_step_is_interrupted_between_or_within_its_requests(
        self, after: int, within: bool
    ) -> None:
        owner, name = (self.engine.prefix, "publish") if within else (self.engine, "_commit")
        before, left = getattr(owner, name), [after]

        def interrupted(*arguments: Any) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            before(*arguments)

        with (
            _replaced(owner, name, interrupted),
            contextlib.suppress(KeyboardInterrupt, CacheFull),
        ):
            self.engine.step()
        self._collect()

    @precondition(lambda self: self.live)
    @rule(data=st.data(), how=st.sampled_from(["cancel", "abandon"]))
    def cancel(self, data: st.DataObject, how: str) -> None:
        getattr(self.engine, how)(data.draw(st.sampled_from(list(self.live))))

    @rule(seq=st.sampled_from("ab"), tokens=TOKENS)
    def prefill_by_id(self, seq: str, tokens: list[int]) -> None:
        before = self.ids.get(seq, [])
        with contextlib.suppress(SessionError):
            logits = self.session.prefill(seq, tokens)
            self.ids[seq] = [*before, *tokens]
            assert np.array_equal(logits, expected_logits(self.ids[seq]))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def release_by_id(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.ids)))
        self.session.release(seq)
        del self.ids[seq]

    @rule(tokens=st.lists(st.integers(0, 2), min_size=2, max_size=30))
    def score(self, tokens: list[int]) -> None:
        with contextlib.suppress(CacheFull):
            self.llm.score(tokens)

    @rule()
    def save(self) -> None:
        assert self.llm.save_cache(self.file) == len(list(self.session.pool.published()))

    @precondition(lambda self: self.file.exists())
    @rule(forget=st.booleans())
    def load(self, forget: bool) -> None:
        if forget:
            self.engine.prefix.clear()
        unused, cached = self.session.pool.unused, self.session.pool.cached
        restored = self.llm.load_cache(self.file)
        assert restored <= unused
        assert self.session.pool.cached == cached + restored

    @rule()
    def reset(self) -> None:
        self.engine.reset()
        self._collect()
        assert not self.live
        assert self.session.pool.cached == 0

    @invariant()
    def the_books_agree(self) -> None:
        check_blocks(
            self.session.pool, self.engine.scheduler.running, self.session.open_sequences()
        )

    def teardown(self) -> None:
        if not hasattr(self, "live"):
            return
        self.session.reset()
        self.ids.clear()
        for _ in range(1000):
            if self.engine.idle:
                break
            self.engine.step()
        self._collect()
        assert not self.live
        assert self.engine.idle
        assert self.session.free_blocks() == self.session.pool.blocks
        self.seen["preemptions"] += self.engine.scheduler.preemptions
        self.seen["hits"] += self.engine.prefix.hits
        self.seen["drafted"] += self.engine.speculation.drafted
        self.seen["accepted"] += self.engine.speculation.accepted
        self.engine.close()


@contextlib.contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class Free(DraftCost):
    """Drafts that are always worth verifying, whatever the clock says."""

    relative = 0.0

    def knows(self, sequences: int) -> bool:
        return True


def guess(drafter: Drafter, tokens: list[int], most: int, cost: float) -> list[int]:
    """Drafts of which those before some position are right, and those at others wrong."""
    drafts = greedy(tokens, most)
    return [d if (len(tokens) + i) % 5 else (d + 1) % VOCABULARY for i, d in enumerate(drafts)]


@pytest.mark.parametrize("speculate", [0, 4])
def test_whatever_happens_everyone_gets_its_own_tokens(
    tiny_llm: Callable[..., LLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speculate: int
) -> None:
    Engines.llm = tiny_llm(
        kv_capacity=CAPACITY, max_sequences=4, step_tokens=12, check_blocks=True,
        speculate=speculate,
    )  # fmt: skip
    Engines.file, Engines.seen = tmp_path / "cache", Counter()
    monkeypatch.setattr(Drafter, "draft", guess)
    wanted = {"preemptions", "hits", *(("drafted", "accepted") if speculate else ())}
    seen = Engines.seen
    for _ in range(6):  # what chance did not bring about, it does another time
        run_state_machine_as_test(
            Engines, settings=settings(max_examples=100, stateful_step_count=30, deadline=None)
        )
        if all(seen[name] for name in wanted):
            break
    assert {name for name in wanted if seen[name]} == wanted
    assert seen["drafted"] > seen["accepted"] if speculate else not seen["drafted"]
