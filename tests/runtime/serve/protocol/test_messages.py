"""Messages as chat templates know them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.protocol.chat import ChatRequest
from ferrum.runtime.serve.protocol.messages import for_template


def shown(message: Any) -> Any:
    """What a template gets of a message."""
    read = ChatRequest.read(json.dumps({"messages": [message]}).encode())
    return for_template(read.messages[0])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([], ""),
    ],
)
def test_content_is_one_text(content: Any, text: str) -> None:
    assert shown({"role": "user", "content": content}) == {"role": "user", "content": text}


def test_an_assistant_without_content_has_an_empty_one() -> None:
    for message in ({"role": "assistant"}, {"role": "assistant", "content": None}):
        assert shown(message) == {"role": "assistant", "content": ""}


def test_a_developer_is_a_system() -> None:
    assert shown({"role": "developer", "content": "a"})["role"] == "system"


def test_thoughts_and_names_are_handed_on() -> None:
    message = {"role": "assistant", "content": "a", "reasoning_content": "b", "name": "c"}
    assert shown(message) == message
    tool = {"role": "tool", "content": "a", "tool_call_id": "b"}
    assert shown(tool) == tool


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        ('{"a": ', '{"a": '),
        ("5", "5"),
        ("[" * 100_000, "[" * 100_000),
        (r'{"a": "\ud800"}', r'{"a": "\ud800"}'),
        ('{"a": [{"b": 1e999}]}', '{"a": [{"b": 1e999}]}'),  # no number of JSON's that it could be
        ('{"a": [{"b": -1.5e300}]}', {"a": [{"b": -1.5e300}]}),
    ],
)
def test_arguments_are_an_object_where_they_spell_one(written: str, arguments: Any) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": written}}
    (seen,) = shown({"role": "assistant", "tool_calls": [call]})["tool_calls"]
    assert seen == {**call, "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize("name", ["a\x7fb", "a\nb", "\0", "\x85"])
def test_a_functions_name_has_no_control_characters(name: str) -> None:
    body = {
        "messages": [{"role": "user", "content": "a"}],
        "tools": [{"type": "function", "function": {"name": name}}],
    }
    with pytest.raises(ApiError, match="-> a string without control characters") as refused:
        ChatRequest.read(json.dumps(body).encode())
    assert refused.value.param == "tools[0].function.name"
