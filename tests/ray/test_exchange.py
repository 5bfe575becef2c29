"""One HTTP exchange with an ASGI application in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from ferrum.runtime.serve.ray.exchange import Exchange, HttpRequest

SCOPE = {"type": "http", "method": "POST", "path": "/y", "root_path": "", "query_string": b"a=1",
         "headers": [(b"host", b"h")], "http_version": "1.1", "state": {}}  # fmt: skip


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await request.body() + request.url.query.encode())


async def all_of(app: Starlette, body: bytes = b"") -> list[list[Message]]:
    return [batch async for batch in Exchange(app, HttpRequest.of(SCOPE, body)).batches()]


def starlette(endpoint: object) -> Starlette:
    return Starlette(routes=[Route("/y", endpoint, methods=["POST"])])


def test_an_answer_is_one_batch_with_the_application_s_path_and_body() -> None:
    (batch,) = asyncio.run(all_of(starlette(echo), b"body "))
    assert [message["type"] for message in batch] == ["http.response.start", "http.response.body"]
    assert batch[0]["status"] == 200
    assert batch[1]["body"] == b"body a=1"


def test_nothing_is_seen_before_the_answer_has_begun() -> None:
    async def scenario() -> None:
        begin = asyncio.Event()

        async def late() -> AsyncIterator[bytes]:
            yield b""
            await begin.wait()
            yield b"first"

        async def endpoint(request: Request) -> StreamingResponse:
            return StreamingResponse(late())

        batches = Exchange(starlette(endpoint), HttpRequest.of(SCOPE, b"")).batches()
        first = asyncio.ensure_future(batches.__anext__())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not first.done()
        begin.set()
        start, body = await first
        assert start["status"] == 200
        assert body["body"] == b"first"
        await batches.aclose()

    asyncio.run(scenario())


def test_what_came_since_the_last_look_is_one_body() -> None:
    async def many() -> AsyncIterator[bytes]:
        for part in (b"a", b"b", b"c"):
            yield part

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(many())

    batches = asyncio.run(all_of(starlette(endpoint)))
    assert len(batches) < 4
    assert b"".join(m.get("body", b"") for batch in batches for m in batch) == b"abc"
    assert batches[-1][-1]["more_body"] is False


def test_an_exchange_that_is_left_tells_the_application() -> None:
    async def scenario() -> list[str]:
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append((await receive())["type"])
                raise

        batches = Exchange(app, HttpRequest.of(SCOPE, b"")).batches()
        await batches.__anext__()
        await batches.aclose()
        return seen

    assert asyncio.run(scenario()) == ["http.disconnect"]


def test_an_application_that_fails_before_its_end_is_heard_of() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(all_of(app))  # type: ignore[arg-type]


def test_one_that_fails_after_its_end_has_answered() -> None:
    def endpoint(request: Request) -> PlainTextResponse:
        raise ValueError("broken")  # Starlette answers 500, then raises it for the log

    (batch,) = asyncio.run(all_of(starlette(endpoint)))
    assert batch[0]["status"] == 500
