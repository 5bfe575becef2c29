"""One HTTP exchange with an ASGI application in this process: a request in, its messages out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Scope

_FIELDS = ("method", "path", "raw_path", "root_path", "query_string", "headers", "client", "server",
           "scheme", "http_version")  # fmt: skip


@dataclass(frozen=True)
class HttpRequest:
    """A request whose body has been read, to be answered in another process."""

    fields: dict[str, Any]  # those of the ASGI scope that can travel
    body: bytes

    @classmethod
    def of(cls, scope: Scope, body: bytes) -> HttpRequest:
        """The request of an ASGI scope."""
        fields = {name: scope[name] for name in _FIELDS if name in scope}
        fields["headers"] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        return cls(fields, body)

    @property
    def path(self) -> str:
        """The path of the URL."""
        path: str = self.fields["path"]
        return path


class Exchange:
    """Runs the application for one request.

    Messages are handed over in batches: what was sent since the last look, bodies that follow each
    other joined into one. The first batch has the response's start and the first of its body, so
    that nothing is seen of a response that has not begun.
    """

    def __init__(self, app: ASGIApp, request: HttpRequest) -> None:
        self._app, self._request = app, request
        self._unread = True
        self._left = asyncio.Event()
        self._sent: list[Message] = []
        self._due = asyncio.Event()
        self._complete = False

    async def batches(self) -> AsyncIterator[list[Message]]:
        """The messages as they come. Left early, the application sees that the client is gone.

        Raises what the application raises before the end of its response.
        """
        scope = {**self._request.fields, "type": "http", "asgi": {"version": "3.0"}}
        call = asyncio.ensure_future(self._app(scope, self._receive, self._send))
        call.add_done_callback(lambda _: self._due.set())
        try:
            while not (call.done() and not self._sent):
                await self._due.wait()
                if not call.done():
                    self._due.clear()
                batch, self._sent = _joined(self._sent), []
                if batch:
                    yield batch
            if not self._complete:
                call.result()
        finally:
            if not call.done():
                self._left.set()
                call.cancel()
                await asyncio.wait([call])
            elif not call.cancelled():
                call.exception()  # was raised, or came after the response and is logged by the app

    async def _receive(self) -> Message:
        if self._unread:
            self._unread = False
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self._sent.append(message)
        if message["type"] == "http.response.body":
            self._complete = not message.get("more_body", False)
            if message.get("body") or self._complete:
                self._due.set()


def _joined(messages: list[Message]) -> list[Message]:
    """Messages with bodies that follow each other as one."""
    joined: list[Message] = []
    for message in messages:
        is_body = message["type"] == "http.response.body"
        if is_body and joined and joined[-1]["type"] == "http.response.body":
            joined[-1] = {
                "type": "http.response.body",
                "body": joined[-1].get("body", b"") + message.get("body", b""),
                "more_body": message.get("more_body", False),
            }
        else:
            joined.append(message)
    return joined
