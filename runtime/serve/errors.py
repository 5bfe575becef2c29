"""What a client is told when its request is not answered: a status and OpenAI's error object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

# OpenAI's `type` for each status; others below 500 are invalid requests, others above api errors.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """An answer that is an error. The message is one line, for the client to read.

    `param` is the field of the request that is at fault, `code` a word for programs.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        usual = "invalid_request_error" if status < 500 else "api_error"
        self.status, self.message = status, message
        self.type = _TYPES.get(status, usual) if type is None else type
        self.param, self.code = param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The answer as Starlette sends it."""
        return JSONResponse(self.body(), self.status, self.headers)


class QueueFull(ApiError):
    """As many requests wait as may."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(
            429,
            f"{waiting} requests wait already -> try again in a while",
            code="queue_full",
            headers={"Retry-After": str(retry_after)},
        )


class Draining(ApiError):
    """The server finishes what it has begun and takes nothing new."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "the server is shutting down -> try again when it is back",
            code="draining",
            headers={
                "Retry-After": "10",  # about the time of a restart with a mapped model
                "Connection": "close",
            },
        )


class Stopped(ApiError):
    """The server was stopped before the request was done."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "the server was stopped in the midst of this request -> send it again",
            code="stopped",
            headers={"Retry-After": "10"},
        )


class EngineFailed(ApiError):
    """The engine can run no more steps; the server's log says why."""

    def __init__(self) -> None:
        super().__init__(
            503, "the model no longer runs -> the server must be restarted", code="engine_failed"
        )


class StepFailed(ApiError):
    """The step that would have advanced this request failed; the server's log says why."""

    def __init__(self) -> None:
        super().__init__(
            500, "the model failed in a step of this request; others may pass", code="step_failed"
        )


class TimeLimit(ApiError):
    """The request's time is up, and its answer had not begun."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            504,
            f"no answer within {seconds:g} seconds -> a shorter prompt, or a less busy time",
            code="time_limit",
        )


class ContextExceeded(ApiError):
    """A prompt that could never be answered, or is longer than this server takes."""

    def __init__(self, message: str, param: str | None) -> None:
        super().__init__(400, message, param=param, code="context_length_exceeded")
