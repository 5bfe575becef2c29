"""The engine's thread: many requests from one event loop, whatever becomes of each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ferrum.runtime.binding import GraphError
from ferrum.runtime.block_check import BlocksDisagree
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.engine_thread import EngineThread
from ferrum.runtime.serve.errors import (
    Draining,
    EngineFailed,
    QueueFull,
    StepFailed,
    Stopped,
    TimeLimit,
)
from ferrum.runtime.serve.metrics import Metrics
from ferrum.runtime.serve.ticket import Ticket
from ferrum.runtime.session_errors import ContextTooLong, NoTokens

PROMPT = list(range(40, 60))
SHORT = SamplingParams(max_tokens=12, ignore_eos=True)
LONG = SamplingParams(max_tokens=1000, ignore_eos=True)  # of the 1,024 that the context holds
ENOUGH = SamplingParams(max_tokens=200, ignore_eos=True)  # for seconds of the slow model


@asynccontextmanager
async def started(
    llm: LLM, max_queue: int = 64, timeout: float = 0.0
) -> AsyncIterator[EngineThread]:
    """A thread for the block; at its end it has ended, and no request has a block."""
    engine = EngineThread(llm, Metrics(llm), max_queue, timeout)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
        await engine.stopped()
        assert not engine.alive
        assert llm.engine.idle
        assert llm.session.pool.used == 0


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A coroutine on a loop of its own; one that hangs fails."""
    asyncio.run(asyncio.wait_for(test(), 60))


async def begun(ticket: Ticket) -> Ticket:
    """The ticket, when its first pieces have come."""
    await anext(ticket)
    return ticket


def test_every_ticket_gets_its_own_tokens_however_many_there_are(sample_llm: LLM) -> None:
    prompts = [PROMPT[:n] for n in range(1, 20)]
    alone = [sample_llm.generate(prompt, SHORT)[0].token_ids for prompt in prompts]

    async def test() -> None:
        async with started(sample_llm) as engine:
            tickets = [engine.submit(prompt, SHORT) for prompt in prompts]
            assert engine.running + engine.queued == len(prompts)
            done = await asyncio.gather(*(ticket.finish() for ticket in tickets))
            assert [one.token_ids for one in done] == alone
            assert {one.finish_reason for one in done} == {"length"}
            assert engine.idle
            assert engine.running == engine.queued == 0

    run(test)


def test_pieces_come_while_the_request_goes_on_and_make_up_its_text(slow_llm: LLM) -> None:
    async def test() -> None:
        async with started(slow_llm) as engine:
            ticket = engine.submit(PROMPT, ENOUGH)
            pieces = await anext(ticket)
            assert not ticket.ended
            async for some in ticket:
                assert some
                pieces += some
            done = ticket.completion()
            assert [piece.token for piece in pieces] == done.token_ids
            assert "".join(piece.text for piece in pieces) == done.text
            assert ticket.finish_reason == pieces[-1].finish_reason == "length"

    run(test)


def test_the_loop_hears_of_a_step_once_for_all_requests(
    sample_llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        calls: list[object] = []
        usual = loop.call_soon_threadsafe

        def counted(call: Callable[..., Any], *arguments: Any, **options: Any) -> asyncio.Handle:
            if threading.current_thread().name == "ferrum-engine":
                calls.append(call)
            return usual(call, *arguments, **options)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        async with started(sample_llm) as engine:
            before = sample_llm.clock.steps
            await asyncio.gather(*(engine.submit(PROMPT, SHORT).finish() for _ in range(4)))
            # One more where the end of a request is told without a step.
            assert len(calls) <= sample_llm.clock.steps - before + 1

    run(test)


def test_all_choices_are_taken_or_none(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm, max_queue=2) as engine:  # and 4 that run
            tickets = engine.submit_all(PROMPT, [LONG] * 5)
            with pytest.raises(QueueFull) as refused:
                engine.submit_all(PROMPT, [LONG] * 2)
            assert refused.value.status == 429
            assert int(refused.value.headers["Retry-After"]) >= 1
            assert engine.queued + engine.running == 5
            engine.submit(PROMPT, SHORT)
            with pytest.raises(QueueFull):
                engine.submit(PROMPT, SHORT)
            for ticket in tickets:
                ticket.cancel()
            await until(lambda: engine.idle)
            await engine.submit(PROMPT, SHORT).finish()

    run(test)


def test_a_prompt_that_can_never_run_is_refused_at_once(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm) as engine:
            with pytest.raises(ContextTooLong, match="1,024 tokens and 1 to come -> at most 1,024"):
                engine.submit([1] * 1024, SHORT)
            with pytest.raises(NoTokens):
                engine.submit([], SHORT)
            assert engine.idle

    run(test)


def test_submitting_does_not_wait_for_a_step(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm) as engine:
            with Held(sample_llm):  # as long as a step would
                ticket = engine.submit(PROMPT, SHORT)
                assert ticket.finish_reason is None
                ticket.cancel()
            await until(lambda: engine.idle)

    run(test)


class Held:
    """The model's lock, held by another thread while the block runs."""

    def __init__(self, llm: LLM) -> None:
        self._taken, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(llm,))

    def _hold(self, llm: LLM) -> None:
        with llm.lock:
            self._taken.set()
            self._over.wait(60)

    def __enter__(self) -> None:
        self._thread.start()
        self._taken.wait()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


async def until(true: Callable[[], bool]) -> None:
    """Returns when it is true."""
    while not true():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("when", ["waiting", "running", "submitted just now"])
def test_cancelling_gives_the_blocks_back(slow_llm: LLM, when: str) -> None:
    async def test() -> None:
        async with started(slow_llm) as engine:
            others = []
            if when == "waiting":
                others = engine.submit_all(PROMPT, [LONG] * 4)
                for other in others:
                    await begun(other)
            ticket = engine.submit(PROMPT, LONG)
            if when == "running":
                await begun(ticket)
            ticket.cancel()
            ticket.cancel()
            for other in others:
                other.cancel()
            await until(lambda: engine.idle)
            assert ticket.finish_reason == "cancelled"
            await until(lambda: slow_llm.session.pool.used == 0)

    run(test)


def test_whoever_waits_for_a_cancelled_ticket_is_told_at_once(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm) as engine:
            with Held(sample_llm):  # nothing can come of a step
                ticket = engine.submit(PROMPT, LONG)
                waiting = asyncio.create_task(collect(ticket))
                await asyncio.sleep(0)
                ticket.cancel()
                assert await waiting == []
            await until(lambda: engine.idle)

    run(test)


async def collect(ticket: Ticket) -> list[int]:
    return [piece.token async for pieces in ticket for piece in pieces]


def test_a_ticket_may_be_cancelled_from_another_thread(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm) as engine:
            ticket = await begun(engine.submit(PROMPT, LONG))
            await asyncio.to_thread(ticket.cancel)
            await until(lambda: ticket.ended)

    run(test)


def test_leaving_its_block_cancels_a_ticket(slow_llm: LLM) -> None:
    async def test() -> None:
        async with started(slow_llm) as engine:
            with engine.submit(PROMPT, LONG) as ticket:
                await begun(ticket)
            await until(lambda: ticket.ended)
            assert ticket.finish_reason == "cancelled"
            with engine.submit(PROMPT, SHORT) as ticket:
                await ticket.finish()
            assert ticket.finish_reason == "length"

    run(test)


def test_time_that_is_up_before_the_first_token_is_an_error(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm, timeout=0.05) as engine:
            with Held(sample_llm):
                ticket = engine.submit(PROMPT, LONG)
                await asyncio.sleep(0.1)
            with pytest.raises(TimeLimit, match=r"within 0\.05 seconds") as error:
                await ticket.finish()
            assert error.value.status == 504
            with pytest.raises(TimeLimit):
                ticket.completion()

    run(test)


def test_time_that_is_up_later_ends_the_text_as_any_limit_does(slow_llm: LLM) -> None:
    # Text is held back for as long as it may become this.
    stop = slow_llm.generate(PROMPT, ENOUGH)[0].text + "!"

    async def test() -> None:
        async with started(slow_llm, timeout=3600) as engine:
            shown, held_back = engine.submit_all(
                PROMPT, [LONG, LONG.model_copy(update={"stop": (stop,)})]
            )
            for ticket in (shown, held_back):
                pieces = await anext(ticket)
                ticket._expire()
                pieces += [piece async for some in ticket for piece in some]
                done, text = ticket.completion(), "".join(piece.text for piece in pieces)
                assert ticket.finish_reason == done.finish_reason == "length"
                assert done.text == text + ticket.tail
                assert done.token_ids == [piece.token for piece in pieces]
                assert not any(piece.finish_reason for piece in pieces)
            assert shown.tail == ""
            assert held_back.tail != ""

    run(test)


def test_a_request_that_ends_in_time_is_left_alone(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm, timeout=3600) as engine:
            ticket = engine.submit(PROMPT, SHORT)
            await ticket.finish()
            assert ticket._timer is not None
            assert ticket._timer.cancelled()
            assert not ticket.timed_out

    run(test)


class FailingSteps:
    """Steps that fail in the graph for as long as `count` says."""

    def __init__(self, llm: LLM, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.count, usual = 0, llm.session._binding.run

        def run(arrays: Any) -> Any:
            if self.count:
                self.count -= 1
                raise error
            return usual(arrays)

        monkeypatch.setattr(llm.session._binding, "run", run)


def test_a_step_that_fails_ends_its_requests_and_no_others(
    slow_llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = FailingSteps(slow_llm, monkeypatch, GraphError("[graph] out of order"))

    async def test() -> None:
        async with started(slow_llm) as engine:
            running = engine.submit_all(PROMPT, [LONG] * 4)
            for ticket in running:
                await begun(ticket)
            waiting = engine.submit(PROMPT, SHORT)
            steps.count = 1
            for ticket in running:
                with pytest.raises(StepFailed) as error:
                    await ticket.finish()
                assert "out of order" not in str(error.value)
                assert error.value.status == 500
            done = await waiting.finish()
            assert done.token_ids == slow_llm.generate(PROMPT, SHORT)[0].token_ids
            assert not engine.failing

    run(test)


def test_steps_that_fail_in_a_row_are_no_good_health_until_one_does_not(
    sample_llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = FailingSteps(sample_llm, monkeypatch, GraphError("[graph] out of order"))

    async def test() -> None:
        async with started(sample_llm) as engine:
            for failures in (1, 2, 3):
                steps.count = 1
                with pytest.raises(StepFailed):
                    await engine.submit(PROMPT, SHORT).finish()
                assert engine.failing == (failures == 3)
            await engine.submit(PROMPT, SHORT).finish()
            assert not engine.failing

    run(test)


def test_a_mask_that_fails_does_so_for_its_own_request(sample_llm: LLM) -> None:
    def mask(generated: Any) -> None:
        raise ValueError("no such rule")

    async def test() -> None:
        async with started(sample_llm) as engine:
            good = engine.submit(PROMPT, SHORT)
            bad = engine.submit(PROMPT, SamplingParams(mask=mask))
            with pytest.raises(ValueError, match="no such rule"):
                await bad.finish()
            assert len((await good.finish()).token_ids) == 12

    run(test)


def test_blocks_that_disagree_end_the_engine(
    sample_llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = FailingSteps(sample_llm, monkeypatch, BlocksDisagree("[blocks] two owners"))

    async def test() -> None:
        engine = EngineThread(sample_llm, Metrics(sample_llm), 4)
        engine.start()
        steps.count = 1
        tickets = engine.submit_all(PROMPT, [LONG] * 2)
        for ticket in tickets:
            with pytest.raises(EngineFailed):
                await ticket.finish()
        assert engine.failing
        assert engine.failed
        with pytest.raises(EngineFailed):
            engine.submit(PROMPT, SHORT)
        await engine.drain()
        await engine.stopped()

    run(test)
    sample_llm.engine.reset()


def test_draining_takes_nothing_new_and_waits_for_what_there_is(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm) as engine:
            tickets = engine.submit_all(PROMPT, [SHORT] * 7)
            drained = asyncio.create_task(engine.drain())
            await asyncio.sleep(0)
            with pytest.raises(Draining) as refused:
                engine.submit(PROMPT, SHORT)
            assert refused.value.status == 503
            assert "Retry-After" in refused.value.headers
            for ticket in tickets:
                assert len((await ticket.finish()).token_ids) == 12
            await drained

    run(test)


def test_an_idle_engine_drains_at_once(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm) as engine:
            await engine.drain()

    run(test)


def test_stopping_ends_everything_where_it_is(slow_llm: LLM) -> None:
    async def test() -> None:
        async with started(slow_llm) as engine:
            tickets = engine.submit_all(PROMPT, [LONG] * 7)
            await begun(tickets[0])
            engine.stop()
            for ticket in tickets:
                with pytest.raises(Stopped):
                    await ticket.finish()
            with pytest.raises(Draining):
                engine.submit(PROMPT, SHORT)

    run(test)


def test_the_same_model_may_be_used_beside_it(sample_llm: LLM) -> None:
    wanted = sample_llm.generate(PROMPT, SHORT)[0].token_ids

    async def test() -> None:
        async with started(sample_llm) as engine:
            tickets = engine.submit_all(PROMPT, [SHORT] * 6)
            beside = await asyncio.to_thread(sample_llm.generate, [PROMPT] * 3, SHORT)
            assert [one.token_ids for one in beside] == [wanted] * 3
            for ticket in tickets:
                done = await ticket.finish()
                assert done.token_ids == wanted
                assert "".join(ticket.request.text) == done.text

    run(test)


def test_lower_priority_values_come_first(slow_llm: LLM) -> None:
    async def test() -> None:
        async with started(slow_llm) as engine:
            running = engine.submit_all(PROMPT, [LONG] * 4)
            for ticket in running:
                await begun(ticket)
            late = engine.submit(PROMPT, SHORT, priority=1)
            early = engine.submit(PROMPT, SHORT, priority=-1)
            running[0].cancel()
            await early.finish()
            running[1].cancel()
            await late.finish()
            assert early.request.first_token is not None
            assert late.request.first_token is not None
            assert early.request.first_token < late.request.first_token
            for ticket in running:
                ticket.cancel()

    run(test)


def test_the_thread_sleeps_while_there_is_nothing_to_do(sample_llm: LLM) -> None:
    async def test() -> None:
        async with started(sample_llm) as engine:
            await engine.submit(PROMPT, SHORT).finish()
            before = -1  # the end is told before the thread sleeps
            while waits(engine) != before:  # one that never slept on would make this hang
                before = waits(engine)
                await asyncio.sleep(0.1)
            await engine.submit(PROMPT, SHORT).finish()
            await until(lambda: waits(engine) > before)

    run(test)


def waits(engine: EngineThread) -> int:
    """How often the thread has gone to sleep."""
    thread = engine._thread._thread
    assert thread is not None
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
