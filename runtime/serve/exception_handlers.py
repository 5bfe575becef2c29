"""Exceptions to answers, all of them OpenAI's error objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ferrum.runtime.serve.errors import ApiError

_WORDS = {
    404: "no such path -> GET /openapi.json lists those that there are",
    405: "another method is wanted -> see the header Allow",
}
Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = _WORDS.get(error.status_code, error.detail)
    return ApiError(error.status_code, message, headers=error.headers).response()


# For Starlette's constructor. Other exceptions reach the middleware of `guard`, which logs them.
exception_handlers: Mapping[Any, Handler] = {ApiError: _api_error, HTTPException: _http_error}
