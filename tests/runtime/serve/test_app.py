"""Paths, methods and content types that there are, and those that there are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import openai
import pytest

from ferrum.runtime.serve.protocol.answers import ErrorAnswer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from conftest import Api

POSTS = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/models/", "/v1/embeddings", "/health/", "/index.html"]
)
def test_a_path_that_is_not_there_is_404(api: Api, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    ErrorAnswer.model_validate_json(answer.content)


@pytest.mark.parametrize("path", POSTS)
def test_another_method_is_405_and_told_the_right_one(api: Api, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    ErrorAnswer.model_validate_json(answer.content)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_does_not_say_that_it_is_json_is_415(api: Api, path: str, kind: str) -> None:
    headers = {"content-type": kind}
    answer = httpx.post(api.url + path, content=b'{"prompt": "a"}', headers=headers, timeout=60)
    assert answer.status_code == 415
    ErrorAnswer.model_validate_json(answer.content)


def test_json_may_name_its_charset(api: Api) -> None:
    kind, url = {"content-type": "Application/JSON; charset=utf-8"}, f"{api.url}/tokenize"
    answer = httpx.post(url, content=b'{"prompt": "a"}', headers=kind, timeout=60)
    assert answer.status_code == 200


def test_openais_client_sends_the_key(
    api_with: Callable[..., AbstractContextManager[Api]],
) -> None:
    with api_with(api_key="secret") as api:
        with pytest.raises(openai.AuthenticationError) as caught:
            api.client.models.list()
        assert caught.value.code == "invalid_api_key"
        assert api.client.with_options(api_key="secret").models.list().data
        # What the page and whoever writes a client need to begin with.
        assert api.get("/").status_code == 200
        assert api.get("/openapi.json").json()["security"]


def test_a_prompt_may_be_limited(api_with: Callable[..., AbstractContextManager[Api]]) -> None:
    with api_with(max_prompt=5) as api:
        assert api.post("/v1/completions", {"prompt": [1] * 5}).status_code == 200
        answer = api.post("/v1/completions", {"prompt": [1] * 6})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "prompt")
    assert error["code"] == "context_length_exceeded"


def test_a_model_may_have_a_name(api_with: Callable[..., AbstractContextManager[Api]]) -> None:
    with api_with(model_name="someone/coder") as api:
        assert api.client.models.retrieve("someone/coder").id == "someone/coder"
        answer = api.client.completions.create(model="someone/coder", prompt="a", max_tokens=1)
        assert answer.model == "someone/coder"
