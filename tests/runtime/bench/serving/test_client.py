"""What a server sends is told apart by when it came, however it was cut into pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from ferrum.runtime.bench.serving.client import HOST, Answer, Ask, send

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PAUSE = 0.05


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def ask(talk: Talk, wanted: Ask, within: float = 60.0) -> Answer:
    """The answer of a server that talks as told, to one request."""

    async def both() -> Answer:
        server = await asyncio.start_server(talk, HOST, 0)
        async with server:
            return await send(server.sockets[0].getsockname()[1], wanted, within=within)

    return asyncio.run(both())


def says(*pieces: bytes, pause: float = 0.0) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        writer.close()

    return talk


def test_a_request_is_sent_whole() -> None:
    got = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        got.append(await reader.readexactly(6))
        writer.write(b"HTTP/1.1 201 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    answer = ask(talk, Ask("/v1/x", [1, 2], method="PUT", headers={"X-A": "b"}))
    head, body = got
    assert head.startswith(b"PUT /v1/x HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 6\r\n" in head
    assert b"\r\nX-A: b\r\n" in head
    assert body == b"[1, 2]"
    assert (answer.status, answer.json, answer.broken) == (201, {}, None)
    assert answer.seconds > 0


def test_events_have_the_time_of_the_piece_that_ended_them() -> None:
    first, second = event({"choices": [{"text": "a"}]}), event({"choices": [{"text": "b"}]})
    usage = event({"choices": [], "usage": {"completion_tokens": 2}})
    end = chunk(usage + b"data: [DONE]\n\n") + b"0\r\n\r\n"
    stream = chunk(event({"choices": [{"text": ""}]})) + chunk(first + second[:9])
    answer = ask(says(HEAD, stream, chunk(second[9:]) + end, pause=PAUSE), Ask("/"))
    assert answer.status == 200
    assert answer.is_whole_stream
    assert [e.text for e in answer.events] == ["", "a", "b", ""]
    assert [e.text for e in answer.texts] == ["a", "b"]
    assert answer.text == "ab"
    assert answer.usage == {"completion_tokens": 2}
    a, b = answer.texts
    assert answer.first_text == a.time - answer.started
    # No piece comes before its pauses are over; a busy machine may have two of them read together.
    assert answer.first_text >= PAUSE / 2
    assert b.time - answer.started >= 3 * PAUSE / 2
    assert b.time >= a.time


def test_each_event_has_the_time_of_its_own_piece() -> None:
    first, second = event({"choices": [{"text": "a"}]}), event({"choices": [{"text": "b"}]})
    pieces = [(1.0, HEAD + chunk(first + second[:9])), (2.0, chunk(second[9:]) + b"0\r\n\r\n")]
    answer = Answer("POST", 0.5, pieces, 3.0)
    assert [(e.text, e.time) for e in answer.texts] == [("a", 1.0), ("b", 2.0)]
    assert (answer.first_text, answer.seconds) == (0.5, 2.5)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_an_answer_cut_anywhere_is_the_same(size: int) -> None:
    words = [event({"choices": [{"delta": {"content": word}}]}) for word in ("x", "\u00fc", "\n")]
    whole = HEAD + chunk(words[0]) + chunk(words[1] + words[2]) + b"0\r\n\r\n"
    answer = ask(says(*(whole[i : i + size] for i in range(0, len(whole), size))), Ask("/"))
    assert answer.text == "x\u00fc\n"
    assert not answer.is_whole_stream


def test_an_answer_that_breaks_off_says_so() -> None:
    answer = ask(says(HEAD + chunk(event({"choices": []}))), Ask("/"))
    assert answer.status == 200
    assert not answer.whole
    assert answer.broken is not None
    assert "RemoteProtocolError" in answer.broken


def test_an_answer_to_a_request_that_was_not_read_is_whole() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await asyncio.sleep(PAUSE)
        writer.transport.abort()

    answer = ask(talk, Ask("/", b" " * (8 << 20)))
    assert (answer.status, answer.json, answer.whole) == (413, {}, True)


def test_nobody_at_the_port_is_an_answer_without_a_status() -> None:
    answer = asyncio.run(send(1, Ask("/health", method="GET")))
    assert answer.status == 0
    assert answer.broken is not None


def test_a_client_goes_away_after_enough_pieces_or_time() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        try:
            while True:
                writer.write(chunk(event({"choices": [{"text": "a"}]})))
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass

    satisfied, impatient = ask(talk, Ask("/", enough=3)), ask(talk, Ask("/", patience=0.1))
    for answer in (satisfied, impatient):
        assert answer.given_up
        assert answer.broken is None
    assert len(satisfied.texts) >= 2


def test_an_answer_that_does_not_end_in_time_is_left() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(asyncio.TimeoutError):
        ask(talk, Ask("/"), within=0.1)
