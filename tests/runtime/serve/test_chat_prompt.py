"""Messages to prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ferrum.runtime.artifact import Artifact
from ferrum.runtime.serve.chat_prompt import chat_prompt
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.protocol.messages import ToolMessage, UserMessage

if TYPE_CHECKING:
    from conftest import Api

HELLO = [UserMessage(role="user", content="hello")]


@pytest.mark.parametrize(
    ("variables", "thinking"),
    [({}, "may"), ({"enable_thinking": False}, "never"), ({"open_thoughts": True}, "open")],
)
def test_the_prompt_tells_whether_the_model_thinks(
    thinking_api: Api, variables: dict[str, Any], thinking: str
) -> None:
    assert chat_prompt(thinking_api.service, HELLO, [], variables).thinking == thinking


def test_a_template_without_thoughts_has_none(api: Api) -> None:
    assert chat_prompt(api.service, HELLO, [], {}).thinking == "never"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "self"])
def test_variables_cannot_take_the_place_of_fields(api: Api, name: str) -> None:
    with pytest.raises(ApiError) as caught:
        chat_prompt(api.service, HELLO, [], {name: []})
    assert caught.value.param == f"chat_template_kwargs.{name}"


def test_messages_that_the_template_refuses_are_a_bad_request(thinking_api: Api) -> None:
    first = ToolMessage(role="tool", content="4", tool_call_id="x")
    with pytest.raises(ApiError, match="a tool cannot begin") as caught:
        chat_prompt(thinking_api.service, [first], [], {})
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_a_model_without_a_template_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Artifact, "chat_template", None)
    with pytest.raises(ApiError, match="no chat template") as caught:
        chat_prompt(api.service, HELLO, [], {})
    assert (caught.value.status, caught.value.param) == (400, "messages")
