"""A request that is made ready: its time, its client, its place among those that wait."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from running_service import run_with_service
from starlette.requests import ClientDisconnect

from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.errors import Draining, EngineFailed, QueueFull, Stopped, TimeLimit
from ferrum.runtime.serve.place import Place
from ferrum.runtime.serve.service import Service

PROMPT = list(range(40, 60))
SHORT = SamplingParams(max_tokens=2, ignore_eos=True)


async def never() -> Any:
    await asyncio.Event().wait()


async def gone() -> Any:
    return {"type": "http.disconnect"}


def test_what_the_work_brings_is_what_is_waited_for() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        place = Place(0.0, lambda _: None)
        assert await place.until(loop.run_in_executor(None, lambda: 3), never) == 3
        with pytest.raises(ZeroDivisionError):
            await place.until(loop.run_in_executor(None, lambda: 1 // 0), never)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("timeout", "client", "kind"), [(0.05, never, TimeLimit), (0.0, gone, ClientDisconnect)]
)
def test_work_is_given_up_when_time_is_up_or_the_client_goes(
    timeout: float, client: Any, kind: type[Exception]
) -> None:
    async def test() -> None:
        work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(kind):
            await Place(timeout, lambda _: None).until(work, client)
        assert work.cancelled()

    asyncio.run(test())


def test_it_is_left_once() -> None:
    async def test() -> None:
        left: list[Place] = []
        place = Place(0.0, left.append)
        place.leave()
        place.leave()
        assert left == [place]

    asyncio.run(test())


def test_who_is_made_ready_counts_as_waiting(sample_llm: LLM) -> None:
    async def test(service: Service) -> None:
        engine = service.engine
        with engine.place(), engine.place(), engine.place(), engine.place():
            assert engine.queued == 4
            with pytest.raises(QueueFull), engine.place():
                pass
            assert not engine.idle
        assert engine.queued == 0
        assert engine.idle

    run_with_service(sample_llm, test, max_queue=0)  # beside 4 that run


def test_who_has_a_place_is_answered_while_the_server_drains(sample_llm: LLM) -> None:
    async def test(service: Service) -> None:
        engine = service.engine
        with engine.place() as place:
            drained = asyncio.create_task(engine.drain())
            await asyncio.sleep(0)
            with pytest.raises(Draining), engine.place():
                pass
            (ticket,) = engine.submit_all(PROMPT, [SHORT], place=place)
            place.leave()
            assert not drained.done()
            assert len((await ticket.finish()).token_ids) == 2
        await drained

    run_with_service(sample_llm, test)


@pytest.mark.parametrize("others", [1, 3])
def test_a_place_is_nobody_elses(sample_llm: LLM, others: int) -> None:
    """Who came first is not refused because many choices were ready before it."""

    async def test(service: Service) -> None:
        engine = service.engine
        with ExitStack() as places:
            first = [places.enter_context(engine.place()) for _ in range(others)]
            mine = places.enter_context(engine.place())
            with pytest.raises(QueueFull):
                engine.submit_all(PROMPT, [SHORT] * (5 - others), place=mine)
            with pytest.raises(QueueFull):
                engine.submit_all(PROMPT, [SHORT] * (5 - others))
            tickets = engine.submit_all(PROMPT, [SHORT] * (4 - others), place=mine)
            mine.leave()
            for place in first:
                tickets += engine.submit_all(PROMPT, [SHORT], place=place)
                place.leave()
            for ticket in tickets:
                await ticket.finish()

    run_with_service(sample_llm, test, max_queue=0)  # beside 4 that run


@pytest.mark.parametrize(("end", "kind"), [("stop", Stopped), ("_fail", EngineFailed)])
def test_who_is_made_ready_when_all_ends_waits_no_longer(
    sample_llm: LLM, end: str, kind: type[Exception]
) -> None:
    async def test(service: Service) -> None:
        work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with service.engine.place() as place:
            waits = asyncio.create_task(place.until(work, never))
            await asyncio.sleep(0)
            getattr(service.engine, end)()
            with pytest.raises(kind):
                await waits
            assert work.cancelled()

    run_with_service(sample_llm, test)


def test_work_that_will_not_begin_any_more_has_been_stopped(sample_llm: LLM) -> None:
    go_on = threading.Event()

    async def test(service: Service) -> None:
        running = service.lanes.compile(lambda: go_on.wait(60))
        with service.engine.place() as place:
            waits = asyncio.create_task(place.until(service.lanes.compile(dict), never))
            await asyncio.sleep(0)
            service.engine.stop()
            service.lanes.close()
            with pytest.raises(Stopped):
                await waits
        go_on.set()
        assert await running

    run_with_service(sample_llm, test)


def test_a_place_is_of_no_use_when_all_is_stopped(sample_llm: LLM) -> None:
    async def test(service: Service) -> None:
        with service.engine.place() as place:
            service.engine.stop()
            with pytest.raises(Stopped):
                service.engine.submit_all(PROMPT, [SHORT], place=place)

    run_with_service(sample_llm, test)


def test_the_time_of_being_made_ready_counts(slow_llm: LLM) -> None:
    async def test(service: Service) -> None:
        with service.engine.place() as place:
            place._since -= 600.0
            params = SamplingParams(max_tokens=900, ignore_eos=True)
            (ticket,) = service.engine.submit_all(PROMPT, [params], place=place)
            with suppress(TimeLimit):  # where its time was up before its first token
                await ticket.finish()
            assert len(ticket.request.tokens) < 900

    run_with_service(slow_llm, test, request_timeout=600.0)
