"""Bodies to objects, and what is said of those that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.protocol.body import Body
from ferrum.runtime.serve.protocol.chat import ChatRequest
from ferrum.runtime.serve.protocol.completions import CompletionRequest


def refusal(model: type[Body], body: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        model.read(body)
    assert caught.value.status == 400
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "[request] prompt -> required"),
        ({"prompt": 5}, "prompt", "[request] prompt, got 5 -> a string"),
        ({"prompt": []}, "prompt", "[request] prompt, got [] -> a list of at least 1"),
        ({"prompt": ["a", 5]}, "prompt[1]", "[request] prompt[1], got 5 -> a string"),
        ({"prompt": [[1], ["a"]]}, "prompt[1][0]", "[request] prompt[1][0], got 'a' -> an integer"),
        ({"prompt": "a", "stop": 5}, "stop", "[request] stop, got 5 -> a string or a list"),
        ({"prompt": "a", "stop": ["a", 5]}, "stop[1]", "[request] stop[1], got 5 -> a string"),
        ({"prompt": "a", "n": 1.5}, "n", "[request] n, got 1.5 -> an integer"),
        (
            {"prompt": "a", "temperature": 3},
            "temperature",
            "[request] temperature, got 3 -> less than or equal to 2",
        ),
        (
            {"prompt": "a", "response_format": {"type": "xml"}},
            "response_format.type",
            "[request] response_format.type, got 'xml' -> "
            "one of 'text', 'json_object', 'json_schema'",
        ),
        (
            {"prompt": "a", "response_format": {}},
            "response_format.type",
            "[request] response_format.type -> required",
        ),
        (
            {"prompt": "a", "stream_options": {"usage": True}},
            "stream_options.usage",
            "[request] stream_options.usage -> one of include_obfuscation, include_usage",
        ),
        (
            {"prompt": "a", "suffix": "b"},
            "suffix",
            "[request] suffix, got 'b' -> empty: it is not supported",
        ),
        ([], None, "[request] the body, got [] -> an object"),
        ("text", None, "[request] the body, got 'text' -> an object"),
    ],
)
def test_a_refusal_names_field_value_and_wish(body: Any, param: str | None, message: str) -> None:
    error = refusal(CompletionRequest, json.dumps(body).encode())
    assert (error.param, error.message) == (param, message)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "user"}], "messages[0].content"),
        ([{"content": "a"}], "messages[0].role"),
        ([{"role": "clown", "content": "a"}], "messages[0].role"),
        ([{"role": "user", "content": "a"}, 5], "messages[1]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": "a", "mood": "b"}], "messages[0].mood"),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
            "messages[0].content[0].type",
        ),
    ],
)
def test_a_message_is_named_by_its_number(messages: Any, param: str) -> None:
    assert refusal(ChatRequest, json.dumps({"messages": messages}).encode()).param == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"prompt": "a",}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a", "user": NaN}',
        b'{"prompt": "a", "metadata": {"x": Infinity}}',
        b"[" * 100_000,
        b'{"prompt": "a", "n": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_json_is_no_body(body: bytes) -> None:
    error = refusal(CompletionRequest, body)
    assert error.message.startswith("[request] the body is not JSON: ")
    assert error.param is None


def test_a_refusal_repeats_no_long_value() -> None:
    for value in ("x" * 100_000, ["x"] * 100_000, {"x" * 9000: 1}, 10**4000):
        error = refusal(CompletionRequest, json.dumps({"prompt": "a", "n": value}).encode())
        assert len(error.message) < 300


def test_null_is_as_good_as_nothing() -> None:
    nulls = {name: None for name in CompletionRequest.model_fields if name != "prompt"}
    read = CompletionRequest.read(json.dumps({"prompt": "a", **nulls}).encode())
    assert read == CompletionRequest(prompt="a")


def many(item: str) -> str:
    return ",".join([item] * 300_000)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"prompt": [1, {many(chr(34) * 2)}]}}',
        f'{{"prompt": [{many("[]")}]}}',
        f'{{"prompt": "a", "stop": [{many("5")}]}}',
    ],
)
def test_a_list_is_read_up_to_its_first_bad_item(body: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CompletionRequest.model_validate(json.loads(body))
    assert caught.value.error_count() <= 2


def test_an_object_is_read_up_to_its_first_unknown_field() -> None:
    with pytest.raises(ValidationError) as caught:
        CompletionRequest.model_validate({"prompt": "a", **{f"x{i}": 1 for i in range(1000)}})
    assert caught.value.error_count() == 1
