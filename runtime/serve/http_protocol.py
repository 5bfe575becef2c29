"""HTTP as uvicorn speaks it with httptools, with bounds for what no application sees.

httptools takes headers of any length, and uvicorn would wait for them for ever; and it reads on,
without an end, what follows on an answer that was given before the request's body was there.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.http_head import HttpHead

MOST_HEAD = 64 << 10  # bytes of a request's first line and headers
MOST_UNREAD = 64 << 20  # bytes of a body that come after its answer
SECONDS = 30.0  # in which a head must come, or the rest of a body after its answer


class HttpProtocol(HttpToolsProtocol):
    """One connection: 431 for headers that are too long, and an end to one that says nothing."""

    _in_head = True  # what comes next belongs to a request's head
    _head: HttpHead
    _left = 0  # bytes of the body that are still to come; 0 where it comes in chunks
    _unseen = False  # what is parsed now has not gone through `_head`
    _unread = 0  # bytes of the body that came after the answer
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = HttpHead()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            self._unseen = not self._in_head
            some, data = self._head.take(data) if self._in_head else self._of_body(data)
            if self._head.size > MOST_HEAD:
                self._refuse(ApiError(431, f"the headers are longer than {MOST_HEAD >> 10} KiB"))
                return
            super().data_received(some)
        if self._unread > MOST_UNREAD:
            self.transport.close()
        elif not self._busy():
            self._wait()

    def on_message_begin(self) -> None:
        if self._unseen:
            raise ValueError("a request right behind another's chunks, of which no head was seen")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._unread = False, 0
        self._left = int(dict(self.headers).get(b"content-length", 0))
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._busy():
            self._unread += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._head = True, HttpHead()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._stop_waiting()  # uvicorn waits now, for what comes next
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn answers to what is no HTTP, as our other errors read."""
        self._refuse(ApiError(400, msg))

    def _of_body(self, data: bytes) -> tuple[bytes, bytes]:
        """What there is to parse of the body now, and what comes behind it."""
        size = self._left or len(data)
        self._left -= min(self._left, len(data))
        return data[:size], data[size:]

    def _refuse(self, error: ApiError) -> None:
        if self._busy() and self.cycle.response_started:  # a second answer in its midst
            self.transport.close()
            return
        body = bytes(error.response().body)
        self.transport.write(
            STATUS_LINE[error.status]
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        self.transport.close()
