"""Errors as OpenAI's clients read them."""

from __future__ import annotations

import json

import openai
import pytest

from ferrum.runtime.serve import errors
from ferrum.runtime.serve.errors import ApiError, ContextExceeded, Draining, QueueFull, TimeLimit


def test_the_body_is_openais_error_object() -> None:
    response = ApiError(400, "no", param="n", code="bad_n").response()
    assert response.status_code == 400
    assert json.loads(bytes(response.body)) == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "bad_n"}
    }


@pytest.mark.parametrize(
    ("status", "type_"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (404, "invalid_request_error"),
     (429, "rate_limit_error"), (500, "api_error"), (503, "service_unavailable_error")],
)  # fmt: skip
def test_the_type_follows_from_the_status(status: int, type_: str) -> None:
    assert ApiError(status, "x").type == type_
    assert ApiError(status, "x", type="own").type == "own"


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [(QueueFull(7, 3), 429, "3"), (Draining(), 503, "10"), (errors.Stopped(), 503, "10"),
     (errors.EngineFailed(), 503, None), (errors.StepFailed(), 500, None),
     (TimeLimit(1.5), 504, None), (ContextExceeded("long", "prompt"), 400, None)],
)  # fmt: skip
def test_statuses_and_when_to_try_again(
    error: ApiError, status: int, retry_after: str | None
) -> None:
    response = error.response()
    assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
    assert "\n" not in error.message
    assert error.code


def test_openais_client_knows_the_context_error_by_its_code() -> None:
    body = ContextExceeded("too long", "messages").body()["error"]
    assert (body["code"], body["param"]) == ("context_length_exceeded", "messages")
    assert openai.BadRequestError.status_code == 400
