"""Bodies that are too large or too slow."""

from __future__ import annotations

import asyncio

import pytest
from asgi import ask, echo
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferrum.runtime.serve.body_limit import BodyLimit
from ferrum.runtime.serve.middleware import Errors


def limited(most: int = 10, seconds: float = 60.0, closing: asyncio.Event | None = None) -> ASGIApp:
    return Errors(BodyLimit(echo, most, seconds, closing))


def test_a_body_up_to_the_limit_passes_whole() -> None:
    assert ask(limited(), method="POST", body=[b"01234", b"56789"]).body == b"0123456789"
    announced = {"content-length": "10"}
    assert ask(limited(), method="POST", headers=announced, body=[b"x" * 10]).body == b"x" * 10
    assert ask(limited(), method="POST").body == b""


@pytest.mark.parametrize("announced", [True, False])
def test_a_longer_one_is_413_announced_or_not(announced: bool) -> None:
    headers = {"content-length": "11"} if announced else {"transfer-encoding": "chunked"}
    answer = ask(limited(), method="POST", headers=headers, body=[b"01234", b"56789", b"x"])
    assert answer.status == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert "10 bytes" in answer.json()["error"]["message"]


def test_an_announced_one_is_not_even_read() -> None:
    answer = ask(limited(), method="POST", headers={"content-length": "11"}, stalls=True)
    assert answer.status == 413


def test_a_small_announcement_hides_no_large_body() -> None:
    answer = ask(limited(), method="POST", headers={"content-length": "5"}, body=[b"x" * 11])
    assert answer.status == 413


@pytest.mark.parametrize("length", ["-1", "ten", "1e1", "²"])
def test_an_announcement_that_is_no_number_is_refused(length: str) -> None:
    answer = ask(limited(), method="POST", headers={"content-length": length}, body=[b"x"])
    assert answer.status == 413


def test_a_body_that_does_not_come_is_408() -> None:
    answer = ask(limited(seconds=0.02), method="POST", body=[b"01"], stalls=True)
    assert answer.status == 408
    assert answer.headers["connection"] == "close"


def test_one_that_comes_drop_by_drop_is_408() -> None:
    """The time is the whole body's, not each part's."""

    async def one_more() -> Message:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def work() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        await limited(most=100, seconds=0.3)(scope, one_more, send)
        return sent

    assert asyncio.run(work())[0]["status"] == 408


def ended() -> asyncio.Event:
    closing = asyncio.Event()
    closing.set()
    return closing


def test_one_that_is_still_coming_when_the_server_ends_is_503_at_once() -> None:
    answer = ask(limited(closing=ended()), method="POST", body=[b"01"], stalls=True)
    assert (answer.status, answer.json()["error"]["code"]) == (503, "draining")
    assert answer.headers["connection"] == "close"
    assert int(answer.headers["retry-after"]) > 0


def test_one_that_stalls_learns_of_the_servers_end() -> None:
    closing = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_later(0.01, closing.set)
        await limited(closing=closing)(scope, receive, send)

    assert ask(app, method="POST", stalls=True).status == 503


def test_one_that_is_there_is_read_though_the_server_ends() -> None:
    answer = ask(limited(closing=ended()), method="POST", body=[b"01234", b"56789"])
    assert (answer.status, answer.body) == (200, b"0123456789")
