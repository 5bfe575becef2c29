"""What every request passes on its way in, outermost first; plain ASGI, nothing per streamed piece
but one function call.

request id and log -> foreign web pages -> CORS -> errors -> API key -> body limit -> routes
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferrum.runtime.serve.api_key import ApiKey
from ferrum.runtime.serve.body_limit import BodyLimit
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.foreign_pages import ForeignPages
from ferrum.runtime.serve.settings import ServeSettings

_log = logging.getLogger("ferrum.serve")
_access = logging.getLogger("ferrum.serve.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_GONE = 499  # what a log calls a request whose client went away before the answer


def middleware(
    settings: ServeSettings,
    responded: Callable[[int], None],
    closing: asyncio.Event | None = None,
) -> list[Middleware]:
    """All that the settings want, for Starlette's constructor; `responded` is told each status.

    Bodies that are still coming are waited for until `closing` is set.
    """
    stack = [
        Middleware(RequestLog, responded=responded, access_log=settings.access_log),
        Middleware(ForeignPages, settings=settings),
    ]
    if settings.cors_origin:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origin,
                allow_methods=("GET", "POST"),
                allow_headers=("*",),  # OpenAI's client in a browser sends some of its own
                expose_headers=("x-request-id", "retry-after"),
            )
        )
    stack.append(Middleware(Errors))
    if settings.api_key is not None:
        stack.append(Middleware(ApiKey, key=settings.api_key))
    stack.append(Middleware(BodyLimit, most=settings.max_body, closing=closing))
    return stack


class RequestLog:
    """Gives a request its id (the client's own, where it is harmless), and tells of its answer.

    With `access_log` one line per request goes to the log, without any text of the request.
    """

    def __init__(
        self, app: ASGIApp, responded: Callable[[int], None], *, access_log: bool = False
    ) -> None:
        self._app, self._responded, self._access_log = app, responded, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status, started = _GONE, time.perf_counter()

        def sent(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            return send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            self._responded(status)
            if self._access_log:
                _access.info(
                    "%s %s %d %.3fs %s", scope["method"], quote(scope["path"]), status,
                    time.perf_counter() - started, request_id)  # fmt: skip


class Errors:
    """Turns what is raised into an answer; no traceback leaves the server, it is in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        def sent(message: Message) -> Awaitable[None]:
            nonlocal begun
            begun = True
            return send(message)

        try:
            await self._app(scope, receive, sent)
        except ClientDisconnect:  # nobody is left to answer
            pass
        except Exception as error:
            answer = error if isinstance(error, ApiError) else _internal_error(scope, error)
            # The middle of an answer is too late for a status: the server cuts the connection.
            if not begun:
                await answer.response()(scope, receive, send)


def _internal_error(scope: Scope, error: Exception) -> ApiError:
    request_id = scope.get("state", {}).get("request_id", "")
    _log.error("request %s: %s %s failed", request_id, scope["method"], quote(scope["path"]),
               exc_info=error)  # fmt: skip
    return ApiError(500, f"internal error; the server's log tells of request {request_id}",
                    code="internal_error")  # fmt: skip


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4().hex}"
