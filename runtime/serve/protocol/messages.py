"""Messages and tools of a chat, and the objects that a chat template takes for them."""

from __future__ import annotations

import math
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import from_json

from ferrum.runtime.serve.protocol.body import Body


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = Field(
        None, description="accepted, without effect: equal beginnings are found by themselves"
    )


class RefusalPart(Body):
    """A part of an assistant's message in which it refuses."""

    type: Literal["refusal"]
    refusal: str


Text = str | Annotated[list[TextPart], Field(fail_fast=True)]
_AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class CalledFunction(Body):
    """Which function, with what."""

    name: str
    arguments: str = Field(description="JSON")


class MessageToolCall(Body):
    """A call that the assistant has made."""

    id: str
    type: Literal["function"]
    function: CalledFunction
    index: int | None = Field(None, description="accepted, without effect: events have it")


class SystemMessage(Body):
    """How the assistant shall behave."""

    role: Literal["system", "developer"]
    content: Text
    name: str | None = None


class UserMessage(Body):
    """What the user says. Text only: the model sees no pictures and hears nothing."""

    role: Literal["user"]
    content: Text
    name: str | None = None


class AssistantMessage(Body):
    """What the model has answered before; an answer can be sent back as it came."""

    role: Literal["assistant"]
    content: str | Annotated[list[_AssistantPart], Field(fail_fast=True)] | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[MessageToolCall], Field(fail_fast=True)] | None = None
    name: str | None = None
    annotations: list[Any] | None = Field(None, description="accepted, without effect")
    audio: None = None
    function_call: None = None


class ToolMessage(Body):
    """What a called function has returned."""

    role: Literal["tool"]
    content: Text
    tool_call_id: str
    name: str | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]
Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]


def _printable(name: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise ValueError("a string without control characters")
    return name


class Function(Body):
    """A function that the model may call."""

    name: Annotated[str, AfterValidator(_printable)] = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="a JSON schema")
    strict: bool | None = Field(
        None, description="without effect: only a tool_choice that forces a call keeps to schemas"
    )


class Tool(Body):
    """Something that the model may use."""

    type: Literal["function"]
    function: Function


Tools = Annotated[list[Tool], Field(max_length=1024, fail_fast=True)]


def for_template(message: Message) -> dict[str, Any]:
    """A message as chat templates know it: text as one string, arguments as objects."""
    content = message.content
    if content is None:
        content = ""
    elif not isinstance(content, str):
        content = "".join(p.refusal if isinstance(p, RefusalPart) else p.text for p in content)
    # "developer" is OpenAI's newer word, that templates do not know.
    role = "system" if isinstance(message, SystemMessage) else message.role
    result: dict[str, Any] = {"role": role, "content": content}
    if isinstance(message, AssistantMessage):
        if message.reasoning_content is not None:
            result["reasoning_content"] = message.reasoning_content
        if message.tool_calls:
            result["tool_calls"] = [_call(call) for call in message.tool_calls]
    elif isinstance(message, ToolMessage):
        result["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        result["name"] = message.name
    return result


def _call(call: MessageToolCall) -> dict[str, Any]:
    written = call.function.arguments
    try:
        arguments = from_json(written, allow_inf_nan=False)
    except ValueError:
        arguments = None
    # What the model has got wrong, it is shown as it was.
    shown = arguments if isinstance(arguments, dict) and _finite(arguments) else written
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": shown},
    }


def _finite(value: Any) -> bool:
    """Whether all numbers in a value of JSON are: 1e999 is read as infinity, which JSON has not."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))
