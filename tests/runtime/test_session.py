"""Sequences over one graph: each gets its own logits, and refusals change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_export
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tiny_export import CONTEXT, VOCABULARY, expected_logits

from ferrum.runtime.session import Session
from ferrum.runtime.session_errors import (
    BadToken,
    CacheFull,
    ContextTooLong,
    NoTokens,
    RepeatedSequence,
    SessionError,
    StartMismatch,
    TooManySequences,
    UnknownSequence,
)
from ferrum.runtime.settings import Settings

Open = Callable[..., Session]


def test_prefill_and_decode_continue_one_sequence(tiny_session: Open) -> None:
    session = tiny_session()
    assert np.array_equal(session.prefill("a", [3, 1, 4]), expected_logits([3, 1, 4]))
    assert np.array_equal(session.decode("a", 1), expected_logits([3, 1, 4, 1]))
    assert np.array_equal(
        session.prefill("a", [5, 9], start=4), expected_logits([3, 1, 4, 1, 5, 9])
    )
    assert session.length("a") == 6


@pytest.mark.parametrize("kv_dtype", ["float16", "bfloat16"])
def test_caches_of_half_the_width_hold_the_same_tokens(kv_dtype: str, tmp_path: Path) -> None:
    path = tiny_export.write(tmp_path, kv_dtype=kv_dtype)
    session = Session.open(path, Settings(kernels="reference", threads=1, block_size=4))
    session.prefill("a", [3, 1, 4, 1, 5])
    assert np.array_equal(session.decode("a", 9), expected_logits([3, 1, 4, 1, 5, 9]))


@pytest.mark.parametrize("step_tokens", [2, 7, 64])
def test_a_prompt_in_chunks_gives_the_same_logits(tiny_session: Open, step_tokens: int) -> None:
    session = tiny_session(step_tokens=step_tokens, max_sequences=2)
    prompt = [i * 7 % VOCABULARY for i in range(50)]
    assert np.array_equal(session.prefill("a", prompt), expected_logits(prompt))


def test_every_token_of_a_prompt_has_its_logits(tiny_session: Open) -> None:
    session = tiny_session(step_tokens=16)
    session.prefill("a", [8, 8])
    prompt = [i * 11 % VOCABULARY for i in range(37)]
    rows = session.prefill_all("a", prompt)
    wanted = [expected_logits([8, 8, *prompt[: i + 1]]) for i in range(len(prompt))]
    assert np.array_equal(rows, np.stack(wanted))
    assert np.array_equal(session.decode("a", 2), expected_logits([8, 8, *prompt, 2]))


def test_parts_that_are_not_asked_for_take_back_the_others(tiny_session: Open) -> None:
    session = tiny_session(step_tokens=16)
    session.prefill("a", [8, 8])
    parts = session.prefill_parts("a", list(range(40)))
    assert np.array_equal(next(parts)[-1], expected_logits([8, 8, *range(16)]))
    parts.close()  # type: ignore[attr-defined]
    assert session.length("a") == 2
    assert np.array_equal(session.decode("a", 2), expected_logits([8, 8, 2]))


def test_a_batch_keeps_its_order(tiny_session: Open) -> None:
    session = tiny_session()
    for seq, prompt in (("a", [1, 2, 3]), ("b", [4]), ("c", [5, 6, 7, 8, 9])):
        session.prefill(seq, prompt)
    rows = session.decode_batch([("c", 10), ("a", 11), ("b", 12)])
    wanted = [[5, 6, 7, 8, 9, 10], [1, 2, 3, 11], [4, 12]]
    assert np.array_equal(rows, np.stack([expected_logits(tokens) for tokens in wanted]))


def test_prefill_chunks_and_decodes_share_a_step(tiny_session: Open) -> None:
    session = tiny_session()
    session.prefill("a", [1, 2, 3])
    session.prefill("b", [4])
    rows = session.step([("b", [5, 6, 7, 8, 9, 10]), ("a", [11])])
    assert np.array_equal(rows[0], expected_logits([4, 5, 6, 7, 8, 9, 10]))
    assert np.array_equal(rows[1], expected_logits([1, 2, 3, 11]))


def test_an_empty_batch_gives_nothing(tiny_session: Open) -> None:
    assert len(tiny_session().decode_batch([])) == 0


def test_results_outlive_the_next_step(tiny_session: Open) -> None:
    session = tiny_session()
    first = session.prefill("a", [1, 2, 3])
    session.prefill("b", [4, 5])
    second = session.decode_batch([("a", 6), ("b", 7)])
    session.decode_batch([("a", 8), ("b", 9)])
    assert np.array_equal(first, expected_logits([1, 2, 3]))
    assert np.array_equal(second[1], expected_logits([4, 5, 7]))


def test_a_decode_that_fails_takes_no_block(
    tiny_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(kv_capacity=16)
    session.prefill("a", [1, 2, 3, 4])  # a whole block

    def fails(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(session._binding, "run", fails)
    with pytest.raises(RuntimeError):
        session.decode("a", 5)
    monkeypatch.undo()
    assert session.free_blocks() == 3
    assert np.array_equal(session.decode("a", 5), expected_logits([1, 2, 3, 4, 5]))


def test_a_prompt_may_be_as_long_as_anything_can_be(tiny_session: Open) -> None:
    session = tiny_session(kv_capacity=64)
    session.check([1] * 60, beyond=4)
    with pytest.raises(ContextTooLong):
        session.check([1] * 60, beyond=5)


def test_logits_of_every_token_come_some_at_a_time(
    tiny_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferrum.runtime.session._MOST_LOGITS", 3 * VOCABULARY)
    parts = [len(part) for part in tiny_session().prefill_parts("a", [1] * 8)]
    assert parts == [3, 3, 2]


def test_released_blocks_serve_the_next_sequence_stale_as_they_are(tiny_session: Open) -> None:
    session = tiny_session(kv_capacity=16)
    session.prefill("a", [200] * 16)
    session.release("a")
    assert np.array_equal(session.prefill("b", [1, 2]), expected_logits([1, 2]))


def test_warm_up_gives_every_block_back(tiny_session: Open) -> None:
    session = tiny_session(kv_capacity=32)
    session.prepare(20)
    assert session.free_blocks() == 8
    assert session.sequences == []
    assert session.clock.steps == 0


def test_warm_up_that_does_not_fit_is_refused_and_leaks_nothing(tiny_session: Open) -> None:
    session = tiny_session(kv_capacity=32)
    with pytest.raises(CacheFull):
        session.prepare(33)
    with pytest.raises(ContextTooLong):
        session.prepare(CONTEXT + 1)
    with pytest.raises(NoTokens):
        session.prepare(0)
    assert session.free_blocks() == 8


def test_reset_gives_back_every_block_to_the_last_one(tiny_session: Open) -> None:
    session = tiny_session(kv_capacity=64)
    for seq in range(5):
        session.prefill(seq, [seq] * (seq + 3))
    session.reset()
    assert session.free_blocks() == 16
    assert session.sequences == []
    with pytest.raises(UnknownSequence):
        session.decode(0, 1)


def test_capacity_is_whole_blocks(tiny_session: Open) -> None:
    session = tiny_session(kv_capacity=33)
    assert session.kv_capacity() == 36
    assert session.free_blocks() == 9


REFUSALS = {
    "unknown sequence": (UnknownSequence, lambda s: s.decode("nobody", 1)),
    "unknown among known": (UnknownSequence, lambda s: s.decode_batch([("a", 1), ("nobody", 1)])),
    "release of nobody": (UnknownSequence, lambda s: s.release("nobody")),
    "repeated sequence": (RepeatedSequence, lambda s: s.decode_batch([("a", 1), ("a", 2)])),
    "empty prompt": (NoTokens, lambda s: s.prefill("new", [])),
    "no tokens for a known one": (NoTokens, lambda s: s.prefill("a", [])),
    "token below": (BadToken, lambda s: s.decode("a", -1)),
    "token below among others": (BadToken, lambda s: s.prefill("new", [1, -1, 2])),
    "token above": (BadToken, lambda s: s.prefill("new", [1, VOCABULARY, 2])),
    "start too early": (StartMismatch, lambda s: s.prefill("a", [1], start=2)),
    "start of a new one": (StartMismatch, lambda s: s.prefill("new", [1], start=1)),
    "context": (ContextTooLong, lambda s: s.prefill("a", [1] * (CONTEXT - 2))),
    "context from the start": (ContextTooLong, lambda s: s.prefill_all("new", [1] * 97)),
    "no block": (CacheFull, lambda s: s.prefill("new", [1] * 50)),
    "no block in a batch": (CacheFull, lambda s: s.decode_batch([("a", 1), ("b", 1), ("c", 1)])),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_refusal_is_typed_and_leaves_every_sequence_intact(tiny_session: Open, what: str) -> None:
    session = tiny_session(kv_capacity=56)
    sequences = {"a": [1, 2, 3], "b": [7] * 4, "c": [9] * 40}  # 1 + 1 + 10 of 14 blocks
    for seq, tokens in sequences.items():
        session.prefill(seq, tokens)
    if what == "no block in a batch":  # every one of them at a block's end, one block free
        session.prefill("a", [4])
        session.prefill("d", [6])
        sequences |= {"a": [1, 2, 3, 4], "d": [6]}
    free = session.free_blocks()
    error, call = REFUSALS[what]
    with pytest.raises(error) as caught:
        call(session)
    assert isinstance(caught.value, SessionError)
    assert "\n" not in str(caught.value)
    assert session.free_blocks() == free
    assert session.sequences == list(sequences)
    session.release("c")  # room for the others to go on
    for seq in set(sequences) - {"c"}:
        assert np.array_equal(session.decode(seq, 5), expected_logits([*sequences[seq], 5]))


def test_more_sequences_than_the_settings_say_are_refused(tiny_session: Open) -> None:
    session = tiny_session(max_sequences=2)
    session.prefill("a", [1])
    session.prefill("b", [1])
    with pytest.raises(TooManySequences, match="max_sequences"):
        session.prefill("c", [1])
    session.release("a")
    session.prefill("c", [1])


def test_a_full_pool_says_what_was_wanted_and_what_there_is(tiny_session: Open) -> None:
    session = tiny_session(kv_capacity=16)
    session.prefill("a", [1] * 10)
    with pytest.raises(CacheFull, match=r"'b'.* 9 tokens .* 3 blocks .* 1 of 4"):
        session.prefill("b", [1] * 9)


def test_a_failing_graph_leaves_sequences_as_they_were(
    tiny_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_session(step_tokens=16, kv_capacity=64)
    session.prefill("a", [1, 2, 3])
    session.prefill("c", [7] * 5)
    steps = 0
    run = session._binding.run

    def fail_at_the_second(arrays: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt
        return run(arrays)  # type: ignore[arg-type]

    monkeypatch.setattr(session._binding, "run", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        session.prefill("b", [4] * 30)
    steps = 0
    with pytest.raises(KeyboardInterrupt):
        session.prefill("c", [4] * 30)
    monkeypatch.undo()
    assert session.sequences == ["a", "c"]
    assert session.free_blocks() == 16 - 1 - 2
    assert np.array_equal(session.decode("c", 5), expected_logits([7, 7, 7, 7, 7, 5]))
    assert np.array_equal(session.decode("a", 5), expected_logits([1, 2, 3, 5]))


class Sessions(RuleBasedStateMachine):
    """Any mix of calls: logits are each sequence's own, blocks have one owner, none is lost."""

    session: Session

    @initialize()
    def start(self) -> None:
        self.session.reset()
        self.tokens: dict[int, list[int]] = {}

    token = st.integers(0, VOCABULARY - 1)

    @rule(
        seq=st.integers(0, 5), tokens=st.lists(token, min_size=1, max_size=12), every=st.booleans()
    )
    def prefill(self, seq: int, tokens: list[int], every: bool) -> None:
        before = self.tokens.get(seq, [])
        try:
            if every:
                logits = self.session.prefill_all(seq, tokens)[-1]
            else:
                logits = self.session.prefill(seq, tokens, start=len(before))
        except (CacheFull, ContextTooLong, TooManySequences):
            return
        self.tokens[seq] = [*before, *tokens]
        assert np.array_equal(logits, expected_logits(self.tokens[seq]))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.tokens)), min_size=1, unique=True))
        pieces = [(s, data.draw(st.lists(self.token, min_size=1, max_size=5))) for s in chosen]
        try:
            rows = self.session.step(pieces)
        except (CacheFull, ContextTooLong):
            return
        for (seq, tokens), row in zip(pieces, rows, strict=True):
            self.tokens[seq] += tokens
            assert np.array_equal(row, expected_logits(self.tokens[seq]))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.tokens)))
        self.session.release(seq)
        del self.tokens[seq]

    @rule(count=st.integers(1, 30))
    def prepare(self, count: int) -> None:
        try:
            self.session.prepare(count)
        except CacheFull:
            return

    @invariant()
    def every_block_has_one_owner(self) -> None:
        owned = [block for s in self.session._sequences.values() for block in s.blocks.tolist()]
        assert len(set(owned)) == len(owned)
        assert len(owned) + self.session.free_blocks() == self.session.pool.blocks
        assert self.session.sequences == list(self.tokens)
        for seq, tokens in self.tokens.items():
            assert self.session.length(seq) == len(tokens)


def test_any_mix_of_calls_keeps_sequences_apart(tiny_session: Open) -> None:
    Sessions.session = tiny_session(kv_capacity=80, max_sequences=5, step_tokens=8)
    run_state_machine_as_test(
        Sessions,
        settings=hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None),
    )
