"""One HTTP request, and its answer as it comes, at next to no cost while it comes.

The client shares the machine's cores with the server that it measures: all that is done with the
pieces of an answer as they arrive is to put them aside, each with its time. What is in them is
looked at afterwards.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import h11

HOST = "127.0.0.1"
_DONE = "[DONE]"


@dataclass(frozen=True)
class Ask:
    """A request to be sent. `body` is JSON's value, or the bytes themselves.

    It is given up after `patience` seconds or after `enough` pieces of its answer, where the
    answer has not ended before.
    """

    path: str
    body: Any = None
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    patience: float | None = None
    enough: int | None = None

    def message(self) -> bytes:
        """What goes over the wire."""
        body = self.body if isinstance(self.body, bytes) else _json(self.body)
        fields = {
            "Host": HOST,
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **self.headers,
        }
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Event:
    """A server-sent event, and when the last of it was there."""

    time: float
    data: dict[str, Any]

    @property
    def text(self) -> str:
        """What it adds to the answer, of whichever choice and kind."""
        choices = self.data.get("choices") or [{}]
        delta = choices[0].get("delta", choices[0])
        return delta.get("text") or delta.get("content") or delta.get("reasoning_content") or ""


@dataclass
class _Read:
    """What the pieces hold."""

    status: int = 0
    body: list[tuple[float, bytes]] = field(default_factory=list)
    whole: bool = False


@dataclass(eq=False)
class Answer:
    """What came of a request. Times are those of time.perf_counter."""

    method: str
    started: float
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float = 0.0
    given_up: bool = False
    broken: str | None = None  # how the connection ended, if not in order

    @cached_property
    def _read(self) -> _Read:
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method=self.method, target="/", headers=[("Host", HOST)]))
        reader.send(h11.EndOfMessage())
        end = () if self.given_up or self.broken else ((self.ended, b""),)
        found = _Read()
        try:
            for when, data in (*self.pieces, *end):
                reader.receive_data(data)
                for event in _events(reader):
                    if isinstance(event, h11.Response):
                        found.status = event.status_code
                    elif isinstance(event, h11.Data):
                        found.body.append((when, bytes(event.data)))
                    elif isinstance(event, h11.EndOfMessage):
                        found.whole = True
        except h11.RemoteProtocolError as error:
            self.broken = f"{type(error).__name__}: {error}"
        return found

    @property
    def status(self) -> int:
        """HTTP's status; 0 where no answer came."""
        return self._read.status

    @property
    def whole(self) -> bool:
        """Whether all of it came, whatever became of the connection after it."""
        return self._read.whole

    @property
    def body(self) -> bytes:
        """All of the body that came."""
        return b"".join(data for _, data in self._read.body)

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)

    @cached_property
    def events(self) -> list[Event]:
        """The events of a stream, [DONE] left out."""
        return [Event(when, json.loads(data)) for when, data in self._lines() if data != _DONE]

    @property
    def is_whole_stream(self) -> bool:
        """Whether it is a stream with its end."""
        return any(data == _DONE for _, data in self._lines())

    @property
    def texts(self) -> list[Event]:
        """The events that brought text."""
        return [event for event in self.events if event.text]

    @property
    def text(self) -> str:
        """The text of a stream."""
        return "".join(event.text for event in self.events)

    @property
    def first_text(self) -> float:
        """Seconds from the request to the first text."""
        return self.texts[0].time - self.started

    @property
    def usage(self) -> dict[str, Any]:
        """The tokens that the server counted; empty where it told none."""
        values = [event.data for event in self.events] if self._is_stream else [self.json]
        return next((value["usage"] for value in reversed(values) if value.get("usage")), {})

    @property
    def seconds(self) -> float:
        """From the request to the end of the answer."""
        return self.ended - self.started

    @property
    def _is_stream(self) -> bool:
        return self.body.startswith(b"data:")

    def _lines(self) -> Iterator[tuple[float, str]]:
        rest = b""
        for when, data in self._read.body:
            *whole, rest = (rest + data).split(b"\n\n")
            for event in whole:
                for line in event.splitlines():
                    if line.startswith(b"data:"):
                        yield when, line.removeprefix(b"data:").strip().decode()


class _Receiver(asyncio.Protocol):
    """Sends a request and keeps what comes back, until the connection ends or it has enough."""

    def __init__(self, message: bytes, answer: Answer, enough: int | None) -> None:
        self._message, self._answer, self._enough = message, answer, enough
        self._transport: asyncio.Transport | None = None
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._answer.pieces.append((time.perf_counter(), data))
        if self._enough is not None and len(self._answer.pieces) >= self._enough:
            self.give_up()

    def give_up(self) -> None:
        """Go away in the midst of the answer."""
        assert self._transport is not None
        if not self.ended.done():
            self._answer.given_up = True
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._answer.ended = time.perf_counter()
        if error is not None and not self._answer.given_up:
            self._answer.broken = f"{type(error).__name__}: {error}"
        self.ended.set_result(None)


async def send(port: int, ask: Ask, *, within: float = 600.0) -> Answer:
    """Ask a server on this machine; TimeoutError where the answer has not ended in time."""
    loop, message = asyncio.get_running_loop(), ask.message()
    answer = Answer(ask.method, time.perf_counter())
    try:
        _, receiver = await loop.create_connection(
            lambda: _Receiver(message, answer, ask.enough), HOST, port
        )
    except OSError as error:
        answer.broken, answer.ended = f"{type(error).__name__}: {error}", time.perf_counter()
        return answer
    if ask.patience is not None:
        loop.call_later(ask.patience, receiver.give_up)
    try:
        await asyncio.wait_for(asyncio.shield(receiver.ended), within)
    except asyncio.TimeoutError:
        receiver.give_up()
        raise
    return answer


def _events(reader: h11.Connection) -> Iterator[h11.Event]:
    """What the bytes so far hold, up to the answer's end."""
    while reader.their_state not in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED):
        event = reader.next_event()
        if not isinstance(event, h11.Event):  # more must come first
            return
        yield event


def _json(value: Any) -> bytes:
    return b"" if value is None else json.dumps(value).encode()
