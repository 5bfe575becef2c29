"""An HTTP request to what its endpoint works with.

Bodies are parsed, chat templates rendered and texts tokenized in a thread, so that a large request
keeps nobody else's tokens waiting. It has a place from the moment on that its body is there.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

from ferrum.runtime.serve.errors import ApiError, ContextExceeded
from ferrum.runtime.serve.generation import refusal
from ferrum.runtime.serve.place import Place
from ferrum.runtime.serve.service import Service
from ferrum.runtime.session_errors import SessionError

T = TypeVar("T")


def service_of(request: Request) -> Service:
    """What answers this application's requests."""
    service: Service = request.app.state.service
    return service


async def read(request: Request, prepare: Callable[[Service, bytes], T]) -> T:
    """What `prepare` makes of the body, in a thread; ApiError (415) for one that is not JSON."""
    service, body = service_of(request), await _json_of(request)
    return await service.lanes.read(lambda written: prepare(service, written), body)


@asynccontextmanager
async def taken_in(
    request: Request, prepare: Callable[[Service, bytes], T]
) -> AsyncIterator[tuple[T, Place]]:
    """The same for one that wants steps, which has a place then; ApiError (429, 503 or 504) where
    it is one too many, comes too late or takes too long."""
    service, body = service_of(request), await _json_of(request)
    with service.engine.place() as place:
        work = service.lanes.read(lambda written: prepare(service, written), body)
        yield await place.until(work, request.receive), place


async def _json_of(request: Request) -> bytes:
    """The body, of a kind that no page of another site can send without being asked for permission:
    so none can use a server that listens on its visitor's own machine."""
    written = request.headers.get("content-type", "")
    media = written.partition(";")[0].strip().lower()
    if media != "application/json":
        raise ApiError(415, f"[request] Content-Type, got {written!r} -> application/json")
    return await request.body()


def check_model(service: Service, model: str | None) -> None:
    """ApiError (404) for a model that is not served here."""
    if model is not None and model != service.model_name:
        raise ApiError(
            404,
            f"[request] model, got {model!r} -> {service.model_name!r}",
            param="model",
            code="model_not_found",
        )


def encoded(service: Service, text: str, param: str, *, add_bos: bool | None = None) -> list[int]:
    """A prompt's tokens, checked; of one that is far too long only so many are made."""
    most = min(service.llm.session.longest(), service.settings.max_prompt or sys.maxsize)
    tokenizer = service.llm.tokenizer
    if tokenizer.is_longer(text, most):
        raise ContextExceeded(f"[request] {param} of {len(text):,} characters has more tokens than "
                              f"there may be -> at most {most:,}", param)  # fmt: skip
    ids = tokenizer.encode(text, add_bos=add_bos)
    check_prompt(service, ids, param)
    return ids


def check_prompt(service: Service, ids: Sequence[int], param: str) -> None:
    """ApiError (400) for a prompt that is longer than this server takes, or could never run."""
    most = service.settings.max_prompt
    if most is not None and len(ids) > most:
        raise ContextExceeded(
            f"[request] {param} of {len(ids)} tokens -> at most {most} (max_prompt)", param
        )
    # The engine would say the same, but on the event loop, where millions of tokens take a while.
    try:
        service.llm.session.check(ids, beyond=1)
    except SessionError as error:
        raise refusal(error, param) from None
