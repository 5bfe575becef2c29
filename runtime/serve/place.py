"""A request from its arrival until it is in line for the model's steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from ferrum.runtime.serve.errors import ApiError, TimeLimit

T = TypeVar("T")


class Place:
    """Counts as a request that waits, and its time runs, while it is made ready."""

    def __init__(self, timeout: float, leave: Callable[[Place], None]) -> None:
        """`timeout` is in seconds, 0 for none; `leave` is called once, when it waits no more."""
        self._timeout, self._leave = timeout, leave
        self._loop = asyncio.get_running_loop()
        self._since, self._left = self._loop.time(), False
        self._over: asyncio.Future[ApiError] = self._loop.create_future()

    @property
    def waited(self) -> float:
        """Seconds since it has come."""
        return self._loop.time() - self._since

    def leave(self) -> None:
        """It is in line, or has its answer; as often as one likes."""
        if not self._left:
            self._left = True
            self._leave(self)

    def end(self, error: ApiError) -> None:
        """It will not be put in line: `until` raises this instead."""
        if not self._over.done():
            self._over.set_result(error)

    async def until(self, work: asyncio.Future[T], receive: Receive) -> T:
        """What the work brings, unless all is at its end first, or the time is up (TimeLimit), or
        the client goes (ClientDisconnect): then work that has not begun is given up."""
        gone = asyncio.create_task(disconnected(receive))
        left = max(0.0, self._timeout - self.waited) if self._timeout else None
        try:
            any_of: set[asyncio.Future[Any]] = {work, gone, self._over}
            await asyncio.wait(any_of, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if self._over.done():  # first, as the work may have been cancelled with it
                raise self._over.result()
            if work.done():
                return work.result()
            raise ClientDisconnect if gone.done() else TimeLimit(self._timeout)
        finally:
            gone.cancel()
            work.cancel()


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
