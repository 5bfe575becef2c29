"""Who is let in with which key."""

from __future__ import annotations

import pytest
from asgi import ask, hello

from ferrum.runtime.serve.api_key import ApiKey

GUARDED = ApiKey(hello, "secret")


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", "BEARER  secret "])
def test_the_key_opens(header: str) -> None:
    assert ask(GUARDED, "/v1/models", headers={"authorization": header}).status == 200


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "secret", "Basic secret", "Bearer secre", "Bearer secret2",
     "Bearer Secret", "Bearer sécret"],
)  # fmt: skip
def test_nothing_else_does(header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    answer = ask(GUARDED, "/v1/models", headers=headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert b"secret" not in answer.body


@pytest.mark.parametrize("path", ["/", "/health", "/openapi.json"])
def test_paths_that_tell_of_nobodys_work_are_open(path: str) -> None:
    assert ask(GUARDED, path).status == 200


@pytest.mark.parametrize(
    "path", ["/metrics", "/tokenize", "/v1/chat/completions", "/health/", "//", "/nowhere"]
)
def test_all_others_are_not(path: str) -> None:
    assert ask(GUARDED, path).status == 401
