"""Many requests through one session: what a step is made of, and what of a prompt is run at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_export import CONTEXT, VOCABULARY, expected_logits, greedy

from ferrum.runtime.binding import GraphError
from ferrum.runtime.block_pool import BlocksDisagree
from ferrum.runtime.engine import Engine
from ferrum.runtime.llm import LLM
from ferrum.runtime.logits import StepLogits
from ferrum.runtime.request import Request
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.session import Part
from ferrum.runtime.session_errors import CacheFull, ContextTooLong

Open = Callable[..., LLM]


def wanted(count: int, **values: Any) -> SamplingParams:
    return SamplingParams(max_tokens=count, ignore_eos=True, **values)


def finish(engine: Engine, *requests: Request) -> int:
    """Run to the end; how many tokens the steps have prefilled."""
    prefilled = 0
    while any(request.finish_reason is None for request in requests):
        engine.step()
        assert engine.last_step is not None
        prefilled += engine.last_step.prefill_tokens
    return prefilled


def test_a_step_says_what_it_was_made_of(tiny_llm: Open) -> None:
    engine = tiny_llm(max_sequences=4, step_tokens=16).engine
    assert engine.last_step is None
    first = engine.add([1, 2, 3], wanted(9))
    engine.step()
    second = engine.add([4] * 20, wanted(9))
    engine.step()
    report = engine.last_step
    assert report is not None
    assert (report.decodes, report.prefill_tokens, report.sequences) == (1, 15, 2)
    assert report.seconds > 0
    assert engine.batch == [first, second]


def test_with_nobody_to_run_a_step_is_nothing(tiny_llm: Open) -> None:
    engine = tiny_llm().engine
    assert engine.idle
    engine.step()
    engine.abandon(engine.add([1, 2], wanted(9)))
    assert not engine.idle
    engine.step()
    assert engine.idle
    assert engine.last_step is None


def test_a_more_urgent_prompt_is_answered_earlier(tiny_llm: Open) -> None:
    llm = tiny_llm(max_sequences=1)
    streams = [llm.stream([7], wanted(3), priority=p) for p in (0, 1, 0, -1)]
    requests = [stream._request for stream in streams]
    for stream in streams:
        assert stream.finish().token_ids == greedy([7], 3)
    ends = [request.finished or 0 for request in requests]
    assert sorted(range(4), key=ends.__getitem__) == [3, 0, 2, 1]


def test_a_request_can_be_made_beside_a_step_and_put_in_line_later(tiny_llm: Open) -> None:
    engine = tiny_llm().engine
    request = engine.request([1, 2], wanted(3), priority=2)
    assert engine.idle
    assert request.priority == 2
    engine.enqueue(request)
    finish(engine, request)
    assert request.completion().token_ids == greedy([1, 2], 3)


def test_a_failed_request_gives_its_blocks_back_and_raises(tiny_llm: Open) -> None:
    llm = tiny_llm()
    good, bad = (llm.engine.add([i], wanted(5)) for i in (1, 2))
    llm.engine.step()
    llm.engine.fail(bad, RuntimeError("no more"))
    llm.engine.fail(bad, RuntimeError("twice"))
    finish(llm.engine, good)
    assert good.completion().token_ids == greedy([1], 5)
    with pytest.raises(RuntimeError, match="no more"):
        bad.completion()
    assert llm.session.free_blocks() == llm.session.pool.blocks


def test_a_request_that_can_never_fit_is_told_what_it_would_need(tiny_llm: Open) -> None:
    engine = tiny_llm(kv_capacity=40).engine
    with pytest.raises(ContextTooLong) as caught:
        engine.add([1] * 60, wanted(1))
    assert str(caught.value) == (
        "[prompt] 60 tokens and 1 to come -> at most 40: the model's context is 96, the caches "
        "hold 40; it needs 16 blocks of 4 tokens, there are 10"
    )
    assert engine.idle


def test_blocks_that_the_session_lends_to_others_are_an_error_and_no_hang(tiny_llm: Open) -> None:
    llm = tiny_llm(kv_capacity=40)
    request = llm.engine.add([1, 2, 3], wanted(2))
    llm.session.prefill("other", [1] * 40)
    with pytest.raises(CacheFull, match="0 of 10 blocks are free, too few for any request"):
        llm.engine.step()
    llm.session.release("other")
    finish(llm.engine, request)
    assert request.completion().token_ids == greedy([1, 2, 3], 2)


def test_a_mask_is_computed_while_the_graph_runs(
    tiny_llm: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = tiny_llm()
    masked, threads = threading.Event(), set()

    def mask(generated: Sequence[int]) -> np.ndarray:
        threads.add(threading.get_ident())
        masked.set()
        return np.arange(VOCABULARY) % 2 == len(generated) % 2

    run = llm.session._binding.run

    def run_after_the_mask(step: Any) -> Any:
        assert masked.wait(60)  # that it had been asked for after the run would never end well
        masked.clear()
        return run(step)

    monkeypatch.setattr(llm.session._binding, "run", run_after_the_mask)
    (result,) = llm.generate([[1, 2]], wanted(4, mask=mask))
    assert threading.get_ident() not in threads
    tokens = [1, 2]
    for i, token in enumerate(result.token_ids):
        logits = expected_logits(tokens)
        logits[np.arange(VOCABULARY) % 2 != i % 2] = -np.inf
        assert token == logits.argmax()
        tokens.append(token)


def test_a_mask_is_called_once_for_each_token_though_steps_fail(
    tiny_llm: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = tiny_llm()
    lengths: list[int] = []

    def mask(generated: Sequence[int]) -> None:
        lengths.append(len(generated))

    request = llm.engine.add([1, 2], wanted(4, mask=mask))
    llm.engine.step()
    monkeypatch.setattr(llm.session._binding, "run", _fails)
    for _ in range(2):
        with pytest.raises(GraphError):
            llm.engine.step()
    monkeypatch.undo()
    finish(llm.engine, request)
    assert lengths == [0, 1, 2, 3]
    assert request.completion().token_ids == greedy([1, 2], 4)


def _fails(*_: object) -> None:
    raise GraphError("[graph] no")


class LostLogits:
    """Those of a step, which cannot be read."""

    likeliest = None

    def rows(self, scales: Sequence[float | None]) -> list[LostLogits]:
        return [self for _ in scales]

    def all(self) -> None:
        raise GraphError("[graph] lost")


def test_logits_that_cannot_be_read_are_no_requests_fault(
    tiny_llm: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = tiny_llm()
    request = llm.engine.add([1, 2], wanted(4))
    llm.engine.step()
    run = llm.session.run
    monkeypatch.setattr(llm.session, "run", lambda parts: (run(parts), LostLogits())[1])
    with pytest.raises(GraphError, match="lost"):
        llm.engine.step()
    monkeypatch.undo()
    finish(llm.engine, request)
    assert request.completion().token_ids == greedy([1, 2], 4)


def test_drafts_make_no_step_larger_than_steps_are(
    tiny_llm: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm, sizes = tiny_llm(step_tokens=8, max_sequences=4, speculate=4), []
    speculation, run = llm.engine.speculation, llm.session.run

    def as_many_as_may_be(drafting: Sequence[Request], *, tokens: int, **_: int) -> list[list[int]]:
        return [[7] * (tokens // len(drafting)) for _ in drafting]

    def counted(parts: list[Part], **options: bool) -> StepLogits:
        sizes.append(sum(len(part.tokens) for part in parts))
        return run(parts, **options)

    monkeypatch.setattr(speculation, "drafts", as_many_as_may_be)
    monkeypatch.setattr(llm.session, "run", counted)
    requests = [llm.engine.add([one], wanted(6)) for one in (1, 2, 3)]
    while not llm.engine.idle:
        llm.engine.step()
    assert max(sizes) in (6, 8)  # with drafts, that is, and no more of them
    assert [one.completion().token_ids for one in requests] == [greedy([n], 6) for n in (1, 2, 3)]


@pytest.mark.parametrize("written", [False, True])
def test_what_a_failed_step_wrote_is_found_by_nobody(
    tiny_llm: Open, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    llm = tiny_llm()
    run = llm.session._binding.run

    def interrupted(step: Any) -> None:
        if written:
            run(step)
        raise KeyboardInterrupt

    monkeypatch.setattr(llm.session._binding, "run", interrupted)
    request = llm.engine.add([5] * 12, wanted(1))
    with pytest.raises(KeyboardInterrupt):
        llm.engine.step()
    monkeypatch.undo()
    assert not list(llm.session.pool.published())
    assert finish(llm.engine, request) == 12


def test_a_second_turn_prefills_only_what_is_new(tiny_llm: Open) -> None:
    llm = tiny_llm()
    first = llm.engine.add([3, 1] * 10, wanted(15))
    assert finish(llm.engine, first) == 20
    turn = [*first.tokens, 9, 8, 7]  # 38, of which 34 have been in the caches: 8 blocks of 4
    second = llm.engine.add(turn, wanted(5))
    assert finish(llm.engine, second) == 38 - 32
    completion = second.completion()
    assert (completion.cached_tokens, completion.token_ids) == (32, greedy(turn, 5))
    assert first.completion().cached_tokens == 0
    assert (llm.engine.prefix.queries, llm.engine.prefix.hits) == (20 + 38, 32)


def test_one_prompt_is_prefilled_once_for_many_answers(tiny_llm: Open) -> None:
    llm = tiny_llm(step_tokens=16)
    prompt = [7, 2, 9] * 14  # 42
    requests = [llm.engine.add(prompt, wanted(6, temperature=30.0, seed=i)) for i in range(8)]
    assert finish(llm.engine, *requests) == 42 + 7 * 2
    alone = tiny_llm(prefix_reuse=False)
    for i, request in enumerate(requests):
        one = alone.generate(prompt, wanted(6, temperature=30.0, seed=i))[0]
        assert request.completion().token_ids == one.token_ids


def test_a_preempted_one_does_not_run_its_blocks_again(tiny_llm: Open) -> None:
    prefilled = {}
    for reuse in (True, False):
        llm = tiny_llm(kv_capacity=64, prefix_reuse=reuse)
        # The first ends soon after the second was preempted, and leaves most of its blocks alone.
        requests = [llm.engine.add([i] * 25, wanted(12)) for i in (1, 2)]
        prefilled[reuse] = finish(llm.engine, *requests)
        assert llm.engine.scheduler.preemptions > 0
        for i, request in zip((1, 2), requests, strict=True):
            assert request.completion().token_ids == greedy([i] * 25, 12)
            assert request.cached_tokens == 0
    assert prefilled[True] < prefilled[False]


def test_scores_take_the_blocks_that_are_only_kept(tiny_llm: Open) -> None:
    llm = tiny_llm(kv_capacity=40, check_blocks=True)
    llm.generate([[1] * 30], wanted(5))
    assert llm.session.pool.cached == 8
    assert llm.score([2] * 40).shape == (39,)
    assert llm.session.pool.cached == 0


def test_after_a_reset_nothing_is_found(tiny_llm: Open) -> None:
    llm = tiny_llm()
    llm.generate([[1] * 30], wanted(5))
    running = llm.engine.add([1] * 30, wanted(5))
    llm.engine.step()
    llm.engine.reset()
    assert running.completion().finish_reason == "cancelled"
    assert llm.engine.idle
    assert (llm.session.pool.cached, llm.session.pool.used) == (0, 0)


def test_books_that_disagree_end_a_checked_step(tiny_llm: Open) -> None:
    llm = tiny_llm(check_blocks=True)
    llm.engine.add([1] * 9, wanted(5))
    llm.engine.step()
    llm.session.pool.take(1)
    with pytest.raises(BlocksDisagree, match="1 owners, but 0 sequences"):
        llm.engine.step()


def test_without_the_debug_mode_nothing_is_checked(tiny_llm: Open) -> None:
    llm = tiny_llm()
    request = llm.engine.add([1] * 9, wanted(5))
    llm.session.pool.take(1)
    finish(llm.engine, request)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(data=st.data())
def test_reuse_changes_no_token(tiny_llm: Open, data: st.DataObject) -> None:
    llm = tiny_llm(
        max_sequences=data.draw(st.integers(1, 5)),
        step_tokens=data.draw(st.integers(5, 30)),
        kv_capacity=data.draw(st.integers(60, 200)),
        block_size=data.draw(st.integers(1, 9)),
        check_blocks=True,
    )
    token = st.integers(0, VOCABULARY - 1)
    begin = data.draw(st.lists(token, min_size=1, max_size=20))
    for _ in range(data.draw(st.integers(1, 3))):
        prompts = [
            begin[: data.draw(st.integers(0, len(begin)))]
            + data.draw(st.lists(token, min_size=1, max_size=9))
            for _ in range(data.draw(st.integers(1, 5)))
        ]
        count = data.draw(st.integers(1, 12))
        results = llm.generate(prompts, wanted(count))
        assert [r.token_ids for r in results] == [greedy(prompt, count) for prompt in prompts]
        begin = max(([*p, *r.token_ids] for p, r in zip(prompts, results, strict=True)), key=len)
        begin = begin[: CONTEXT - 30]
