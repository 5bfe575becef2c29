"""A request's choices on the engine: put in line together, read together, given up together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from starlette.types import Receive

from ferrum.runtime.request import Piece
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.constraint import Constraint
from ferrum.runtime.serve.engine_thread import EngineThread
from ferrum.runtime.serve.errors import ApiError, ContextExceeded
from ferrum.runtime.serve.place import Place, disconnected
from ferrum.runtime.serve.ticket import Ticket
from ferrum.runtime.session_errors import CacheFull, ContextTooLong, SessionError

# A choice's number and its news: pieces, or None at its end.
News = tuple[int, list[Piece] | None]


@dataclass(frozen=True)
class Generation:
    """What the engine is asked for: prompts, and for each the parameters of its choices."""

    prompts: list[list[int]]
    params: list[list[SamplingParams]]
    priority: int
    param: str  # the request's field that the prompts came from
    constraint: Constraint | None = None  # on all texts

    def constrained(self) -> Generation:
        """The same with masks that keep to the constraint; ApiError (400) where none can."""
        if self.constraint is None:
            return self
        params = [
            [one.model_copy(update={"mask": self.constraint.mask()}) for one in choices]
            for choices in self.params
        ]
        return replace(self, params=params)


@dataclass
class Submitted:
    """The tickets of all choices, and whether the client has gone: then they are cancelled, and
    their iteration ends at once."""

    tickets: list[Ticket]
    client_gone: bool = False

    def cancel(self) -> None:
        """End those that have not ended."""
        for ticket in self.tickets:
            ticket.cancel()


@asynccontextmanager
async def submitted(
    engine: EngineThread, generation: Generation, receive: Receive, place: Place
) -> AsyncIterator[Submitted]:
    """The choices in line while the block runs: cancelled at its end, and when the client goes.

    Raises ApiError where the engine takes one of the prompts not now, or never.
    """
    choices = Submitted([])
    watch: asyncio.Task[None] | None = None
    try:
        for prompt, params in zip(generation.prompts, generation.params, strict=True):
            try:
                choices.tickets += engine.submit_all(prompt, params, generation.priority, place)
            except SessionError as error:
                raise refusal(error, generation.param) from None
        place.leave()
        watch = asyncio.create_task(_cancel_when_gone(receive, choices))
        yield choices
    finally:
        if watch is not None:
            watch.cancel()
        choices.cancel()


async def merged(tickets: Sequence[Ticket]) -> AsyncGenerator[list[News]]:
    """What all tickets bring, as it comes; raises what the first of them fails with."""
    if len(tickets) == 1:
        async for pieces in tickets[0]:
            yield [(0, pieces)]
        yield [(0, None)]
        return
    arrived: asyncio.Queue[News | Exception] = asyncio.Queue()
    readers = [asyncio.create_task(_read(i, one, arrived)) for i, one in enumerate(tickets)]
    running = len(readers)
    try:
        while running:
            batch = [await arrived.get()]
            while not arrived.empty():
                batch.append(arrived.get_nowait())
            news = [item for item in batch if not isinstance(item, Exception)]
            if news:
                yield news
            for item in batch:
                if isinstance(item, Exception):
                    raise item
            running -= sum(pieces is None for _, pieces in news)
    finally:
        for reader in readers:
            reader.cancel()


async def _read(index: int, ticket: Ticket, arrived: asyncio.Queue[News | Exception]) -> None:
    try:
        async for pieces in ticket:
            arrived.put_nowait((index, pieces))
        arrived.put_nowait((index, None))
    except Exception as error:
        arrived.put_nowait(error)


async def _cancel_when_gone(receive: Receive, choices: Submitted) -> None:
    await disconnected(receive)
    choices.client_gone = True
    choices.cancel()


def refusal(error: SessionError, param: str) -> ApiError:
    """What a client is told of a prompt that never runs; `param` is the field it came from."""
    if isinstance(error, (ContextTooLong, CacheFull)):
        return ContextExceeded(str(error), param)
    return ApiError(400, str(error), param=param)
