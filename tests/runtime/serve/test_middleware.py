"""Request ids, the log, errors without tracebacks, and CORS, around real applications."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable

import pytest
from asgi import Answer, ask, hello
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.exception_handlers import exception_handlers
from ferrum.runtime.serve.middleware import Errors, RequestLog, middleware
from ferrum.runtime.serve.settings import ServeSettings

SECRET = "the password is swordfish"


def wrapped(app: ASGIApp, settings: ServeSettings | None = None) -> ASGIApp:
    """An application in all of the middleware."""
    for one in reversed(middleware(settings or ServeSettings(), lambda _: None)):
        app = one.cls(app, *one.args, **one.kwargs)
    return app


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError(SECRET)


async def fails_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": ()})
    await send({"type": "http.response.body", "body": b"so far", "more_body": True})
    raise ValueError(SECRET)


async def is_left(scope: Scope, receive: Receive, send: Send) -> None:
    raise ClientDisconnect


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(
        f"{record.getMessage()} {record.exc_info and record.exc_info[1]}"
        for record in caplog.records
    )


def test_an_error_of_ours_is_500_and_only_the_log_says_which(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = ask(wrapped(fails), "/v1/x\n")
    request_id = answer.headers["x-request-id"]
    assert answer.status == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert request_id in answer.json()["error"]["message"]
    assert b"swordfish" not in answer.body
    assert b"Traceback" not in answer.body
    assert SECRET in logged(caplog)
    assert f"request {request_id}: GET /v1/x%0A failed" in logged(caplog)


def test_in_the_midst_of_an_answer_it_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(wrapped(fails_midway))
    assert (answer.status, answer.body, answer.whole) == (200, b"so far", False)
    assert SECRET in logged(caplog)


def test_a_client_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    assert ask(wrapped(is_left)).status == 0
    assert caplog.records == []


def test_cancellation_is_passed_on() -> None:
    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        ask(wrapped(cancelled))


def test_every_answer_has_an_id_of_its_own() -> None:
    ids = {ask(wrapped(hello)).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"req-[0-9a-f]{32}", one) for one in ids)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("trace-1.a_B", True), ("", False), ("x" * 129, False), ("a b", False), ("a\nb", False)],
)
def test_a_clients_own_id_is_kept_where_it_is_harmless(given: str, kept: bool) -> None:
    answer = ask(wrapped(hello), headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) == kept


def test_errors_of_the_middleware_have_an_id_too() -> None:
    guarded = wrapped(hello, ServeSettings(api_key="k", max_body=1))
    for answer, status in [
        (ask(guarded, "/v1/x"), 401),
        (ask(guarded, headers={"origin": "http://evil.example"}), 403),
        (ask(guarded, headers={"content-length": "2"}), 413),
    ]:
        assert answer.status == status
        assert answer.headers["x-request-id"].startswith("req-")


def test_the_access_log_has_no_text_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferrum.serve.access")
    for on in (False, True):
        app = wrapped(hello, ServeSettings(access_log=on))
        ask(app, "/v1/x y", method="POST", headers={"x-request-id": "me"}, body=[b"hush"])
    assert re.fullmatch(r"POST /v1/x%20y 200 \d+\.\d{3}s me None", logged(caplog))


@pytest.mark.parametrize(("app", "status"), [(hello, 200), (fails, 500), (is_left, 499)])
def test_each_status_is_told(app: ASGIApp, status: int) -> None:
    told: list[int] = []
    ask(RequestLog(Errors(app), told.append))
    assert told == [status]


def route(handler: Callable[[Request], object]) -> ASGIApp:
    """An application of Starlette's with one path, in all of the middleware."""
    return Starlette(
        routes=[Route("/here", handler, methods=["GET"])],
        middleware=middleware(ServeSettings(), lambda _: None),
        exception_handlers=exception_handlers,
    )


async def refuses(request: Request) -> PlainTextResponse:
    raise ApiError(400, "no", param="n")


async def breaks(request: Request) -> PlainTextResponse:
    raise ValueError(SECRET)


def error(answer: Answer) -> dict[str, object]:
    found: dict[str, object] = answer.json()["error"]
    return found


def test_routes_answer_with_openais_errors(caplog: pytest.LogCaptureFixture) -> None:
    missing, wrong = ask(route(refuses), "/there"), ask(route(refuses), "/here", method="POST")
    assert (missing.status, error(missing)["type"]) == (404, "invalid_request_error")
    assert (wrong.status, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert "another method" in str(error(wrong)["message"])
    refused = ask(route(refuses), "/here")
    assert (refused.status, error(refused)["param"]) == (400, "n")
    broken = ask(route(breaks), "/here")
    assert (broken.status, error(broken)["code"]) == (500, "internal_error")
    assert b"swordfish" not in broken.body
    assert logged(caplog).count(SECRET) == 1


def test_pages_of_named_sites_may_read_answers_and_errors() -> None:
    site = "https://chat.example"
    app = wrapped(fails, ServeSettings(cors_origin=site, api_key="k"))
    asked = {"origin": site, "access-control-request-method": "POST",
             "access-control-request-headers": "authorization, x-stainless-lang"}  # fmt: skip
    allowed = ask(app, "/v1/x", method="OPTIONS", headers=asked)
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, site)
    assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
    for headers, status in [({}, 401), ({"authorization": "Bearer k"}, 500)]:
        answer = ask(app, "/v1/x", headers={"origin": site, **headers})
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == site
        assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_there_is_no_cors_unless_asked_for() -> None:
    answer = ask(wrapped(hello), headers={"origin": "http://localhost"})
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers
