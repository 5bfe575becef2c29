"""How large and how slow a request's body may be."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferrum.runtime.serve.errors import ApiError, Draining


class BodyLimit:
    """413 for a body of more than `most` bytes, announced or not; 408 for one that takes longer
    than `seconds` to come; 503 for one that is not there when `closing` is set. All are raised
    where the body is read."""

    def __init__(
        self,
        app: ASGIApp,
        most: int,
        seconds: float = 60.0,
        closing: asyncio.Event | None = None,
    ) -> None:
        self._app, self._most, self._seconds = app, most, seconds
        self._closing = asyncio.Event() if closing is None else closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced) > self._most:
            await self._too_large().response()(scope, receive, send)
            return
        size, complete, end = 0, False, time.monotonic() + self._seconds

        async def limited() -> Message:
            nonlocal size, complete
            if complete:  # only the client's going away is still to be told
                return await receive()
            message = await self._part(receive, end - time.monotonic())
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if size > self._most:
                raise self._too_large()
            return message

        await self._app(scope, limited, send)

    async def _part(self, receive: Receive, seconds: float) -> Message:
        """The next part of a body."""
        part = asyncio.ensure_future(receive())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait(
                {part, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if part.done():
                return part.result()
            if closing.done():
                raise Draining
            raise ApiError(
                408, f"the body did not come within {self._seconds:g} seconds",
                headers={"Connection": "close"})  # fmt: skip
        finally:
            part.cancel()
            closing.cancel()

    def _too_large(self) -> ApiError:
        # The connection stays: most clients look at the answer only when all is sent.
        return ApiError(
            413, f"the body is larger than {self._most:,} bytes, the most that is taken here",
            code="body_too_large")  # fmt: skip
