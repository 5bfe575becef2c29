"""The HTTP server: listens, and ends as it is told to.

SIGTERM or SIGINT: nothing new is taken (503 with Retry-After, also from /health), what was taken is
answered, then it ends. The same once more: what is left is ended where it is. Until then it
listens, so that whoever asks learns why there is no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from ferrum.runtime.serve.http_protocol import HttpProtocol
from ferrum.runtime.serve.service import Service

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LAST_BYTES = 30.0  # seconds that clients have to read the end of their answers
_LAST_WORDS = 1.0  # and what they are told when the server stops at once


class Server(uvicorn.Server):
    """Serves an application until a signal has ended it; `stopped_by` is the second signal."""

    def __init__(self, app: ASGIApp, service: Service, ready: Callable[[], None]) -> None:
        """`ready` is called when requests are taken."""
        super().__init__(
            uvicorn.Config(
                app,
                http=HttpProtocol,
                lifespan="on",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
            )
        )
        self._service, self._ready = service, ready
        self._drain: asyncio.Task[None] | None = None
        self.stopped_by: signal.Signals | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not as uvicorn does, which stops listening at the first signal; see `startup`."""
        yield

    def _signalled(self, number: signal.Signals) -> None:
        if self._drain is None:
            self._drain = asyncio.create_task(self._end_when_idle())
        elif self.stopped_by is None:
            self.stopped_by = number
            self._service.engine.stop()
            asyncio.get_running_loop().call_later(_LAST_WORDS, self._cut_off)
            self.should_exit = True

    def _cut_off(self) -> None:
        """Close the connections of clients that do not read."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _end_when_idle(self) -> None:
        await self._service.engine.drain()
        asyncio.get_running_loop().call_later(_LAST_BYTES, self._cut_off)
        self.should_exit = True
