"""The choices of a request on the engine, and a client that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from running_service import run_with_service
from starlette.types import Receive

from ferrum.runtime.llm import LLM
from ferrum.runtime.request import Piece
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.errors import ApiError, ContextExceeded, QueueFull
from ferrum.runtime.serve.generation import Generation, Submitted, merged, submitted
from ferrum.runtime.serve.service import Service

PROMPT = list(range(40, 60))
LONG = SamplingParams(max_tokens=900, ignore_eos=True)


def params(*lengths: int) -> list[SamplingParams]:
    return [SamplingParams(max_tokens=length, ignore_eos=True) for length in lengths]


@asynccontextmanager
async def in_line(
    service: Service, generation: Generation, receive: Receive
) -> AsyncIterator[Submitted]:
    with service.engine.place() as place:
        async with submitted(service.engine, generation, receive, place) as choices:
            yield choices


async def read(service: Service, generation: Generation) -> None:
    """All of it."""
    async with in_line(service, generation, never) as choices:
        async for _ in merged(choices.tickets):
            pass


async def never() -> Any:
    """A client that stays."""
    await asyncio.Event().wait()


def gone_after(event: asyncio.Event) -> Any:
    async def receive() -> Any:
        await event.wait()
        return {"type": "http.disconnect"}

    return receive


def test_choices_come_merged_each_to_its_end(sample_llm: LLM) -> None:
    async def test(service: Service) -> None:
        generation = Generation([PROMPT, PROMPT[:5]], [params(3, 9), params(6, 1)], 0, "prompt")
        async with in_line(service, generation, never) as choices:
            got: list[list[Piece]] = [[], [], [], []]
            ended = []
            async for news in merged(choices.tickets):
                for index, pieces in news:
                    assert index not in ended
                    if pieces is None:
                        ended.append(index)
                    else:
                        got[index] += pieces
        assert [len(pieces) for pieces in got] == [3, 9, 6, 1]
        assert sorted(ended) == [0, 1, 2, 3]

    run_with_service(sample_llm, test)


def test_a_client_that_goes_ends_all_its_choices(slow_llm: LLM) -> None:
    async def test(service: Service) -> None:
        gone = asyncio.Event()
        generation = Generation([PROMPT], [[LONG] * 6], 0, "prompt")  # two of them wait
        async with in_line(service, generation, gone_after(gone)) as choices:
            async for _ in merged(choices.tickets):
                gone.set()
            assert choices.client_gone
        while not service.engine.idle:
            await asyncio.sleep(0.01)
        reasons = [ticket.request.finish_reason for ticket in choices.tickets]
        assert reasons == ["cancelled"] * 6

    run_with_service(slow_llm, test)


def test_a_block_that_is_left_early_ends_all_choices(sample_llm: LLM) -> None:
    async def test(service: Service) -> None:
        with pytest.raises(RuntimeError, match="left"):
            async with in_line(service, Generation([PROMPT], [[LONG] * 3], 0, "prompt"), never):
                raise RuntimeError("left")

    run_with_service(sample_llm, test)


def test_one_choice_that_fails_fails_the_request(sample_llm: LLM) -> None:
    def broken(generated: Any) -> Any:
        if len(generated) == 3:
            raise ValueError("broken")

    async def test(service: Service) -> None:
        bad = LONG.model_copy(update={"mask": broken})
        generation = Generation([PROMPT], [[LONG, bad, LONG]], 0, "prompt")
        with pytest.raises(ValueError, match="broken"):
            await read(service, generation)

    run_with_service(sample_llm, test)


@pytest.mark.parametrize(
    ("prompts", "kind"), [([PROMPT, PROMPT * 60], ContextExceeded), ([PROMPT, [4096]], ApiError)]
)
def test_a_prompt_that_never_fits_takes_the_others_with_it(
    sample_llm: LLM, prompts: list[list[int]], kind: type[ApiError]
) -> None:
    async def test(service: Service) -> None:
        with pytest.raises(kind) as caught:
            await read(service, Generation(prompts, [[LONG]] * 2, 0, "prompt"))
        assert (caught.value.status, caught.value.param) == (400, "prompt")

    run_with_service(sample_llm, test)


def test_a_full_queue_takes_no_prompt_of_a_request(sample_llm: LLM) -> None:
    async def test(service: Service) -> None:
        generation = Generation([PROMPT] * 6, [[LONG]] * 6, 0, "prompt")
        with pytest.raises(QueueFull):
            await read(service, generation)

    run_with_service(sample_llm, test, max_queue=1)
