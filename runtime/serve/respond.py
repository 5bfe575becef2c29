"""Choices as they come to an HTTP answer: one JSON object, or a stream of events.

Nothing is sent before the first token is there, so that whatever goes wrong until then has its
status. Errors that are raised are for Starlette's handlers.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ferrum.runtime.grammar_error import GrammarError
from ferrum.runtime.request import Completion, FinishReason, Piece
from ferrum.runtime.sampler import SamplingError
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.generation import Generation, Submitted, merged, submitted
from ferrum.runtime.serve.intake import taken_in
from ferrum.runtime.serve.place import Place
from ferrum.runtime.serve.protocol.sampling import Sampling
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.sse import DONE, HEADERS, Envelope, encode, error_event
from ferrum.runtime.serve.ticket import Ticket

_log = logging.getLogger("ferrum.serve")
Item = dict[str, Any]  # of an answer's or event's `choices`


class Growing(Protocol):
    """A choice of a stream."""

    def add(self, pieces: list[Piece]) -> list[Item]:
        """What is to be sent now that these have come."""

    def end(self, reason: FinishReason, tail: str) -> list[Item]:
        """What is to be sent at the end; `tail` is text that no piece had."""


class Form(ABC):
    """How an endpoint writes its answers."""

    def __init__(self, asked: Sampling, head: Item) -> None:
        """`head` is id, object, created and model."""
        self.asked, self.head = asked, head

    @abstractmethod
    def choice(self, index: int, done: Completion) -> Item:
        """A choice that is complete."""

    @abstractmethod
    def growing(self, index: int) -> Growing:
        """A choice of a stream that begins."""


class Generate:
    """An ASGI application that answers one request, of which only the head has been read."""

    def __init__(self, request: Request, prepare: Callable[[Service, bytes], Respond]) -> None:
        """`prepare` makes what is asked for of the body."""
        self._request, self._prepare = request, prepare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with taken_in(self._request, self._prepare) as (respond, place):
            await respond(place, scope, receive, send)


class Respond:
    """The answer to a request whose choices are not yet in line."""

    def __init__(self, service: Service, generation: Generation, form: Form) -> None:
        self._service, self._generation, self._form = service, generation, form

    async def __call__(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        generation = self._generation
        if generation.constraint is not None:
            work = self._service.lanes.compile(generation.constrained)
            generation = await place.until(work, receive)
        async with submitted(self._service.engine, generation, receive, place) as choices:
            if self._form.asked.stream:
                await self._stream(choices, send)
            else:
                answer = await self._whole(choices)
                if answer is not None:
                    await Response(answer, media_type="application/json")(scope, receive, send)

    async def _whole(self, choices: Submitted) -> bytes | None:
        """The answer; None where the client has gone."""
        try:
            for ticket in choices.tickets:
                async for _ in ticket:
                    pass
        except Exception as error:
            raise self._known(error) from error
        if choices.client_gone:
            return None
        done = [
            self._form.choice(index, ticket.completion())
            for index, ticket in enumerate(choices.tickets)
        ]
        return encode({**self._form.head, "choices": done, "usage": self._usage(choices.tickets)})

    async def _stream(self, choices: Submitted, send: Send) -> None:
        async with aclosing(self._events(choices)) as events:
            try:
                first = await anext(events, None)
            except Exception as error:
                raise self._known(error) from error
            if first is None:
                return
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            try:
                await _send(send, first)
                async for some in events:
                    await _send(send, some)
            except Exception as error:
                last = error_event(_told(self._known(error)))
            else:
                last = b"" if choices.client_gone else DONE
            await _send(send, last, more=False)

    async def _events(self, choices: Submitted) -> AsyncGenerator[bytes]:
        """Events, those that came together in one; the end where the client has gone."""
        options, tickets = self._form.asked.stream_options, choices.tickets
        wish = None if options is None else options.include_usage
        envelope = Envelope(self._form.head, usage_follows=wish is True)
        growing = [self._form.growing(index) for index in range(len(tickets))]
        running = len(tickets)
        async with aclosing(merged(tickets)) as all_news:
            async for news in all_news:
                if choices.client_gone:
                    return
                some = []
                for index, pieces in news:
                    if pieces is not None:
                        some += [envelope.event(item) for item in growing[index].add(pieces)]
                        continue
                    running -= 1
                    *items, last = _end(growing[index], tickets[index])
                    some += [envelope.event(item) for item in items]
                    if running or wish is not None:
                        some.append(envelope.event(last))
                    else:
                        some.append(envelope.last_event([last], self._usage(tickets)))
                if not running and wish:
                    some.append(envelope.last_event([], self._usage(tickets)))
                if some:
                    yield b"".join(some)

    def _known(self, error: Exception) -> Exception:
        """The error as the client learns of it, if it may."""
        constraint = self._generation.constraint
        if constraint is not None and isinstance(error, (SamplingError, GrammarError)):
            return ApiError(400, str(error), param=constraint.param)
        return error

    def _usage(self, tickets: Sequence[Ticket]) -> Item:
        """Tokens of prompts, each counted once, and of all choices."""
        of_a_prompt = self._form.asked.choices
        prompts = [tickets[i : i + of_a_prompt] for i in range(0, len(tickets), of_a_prompt)]
        prompt = sum(choices[0].request.prompt_tokens for choices in prompts)
        # What one choice has computed, the others find: it was computed nevertheless.
        cached = sum(min(one.request.cached_tokens for one in choices) for choices in prompts)
        completion = sum(len(t.request.tokens) - t.request.prompt_tokens for t in tickets)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


def _end(choice: Growing, ticket: Ticket) -> list[Item]:
    reason = ticket.finish_reason
    assert reason is not None
    return choice.end(reason, ticket.tail)


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def _told(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    _log.error("a stream has failed", exc_info=error)
    return ApiError(500, "the server failed in the midst of this answer; its log says why")
