"""Messages of a request to the prompt that the model's template makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferrum.runtime.chat_template import ChatError
from ferrum.runtime.grammar_text import Thinking, thinking_of
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.protocol.messages import Message, Tool, for_template
from ferrum.runtime.serve.service import Service

# Variables of every template that the request has other fields for, or that would break the call.
_RESERVED = ("messages", "tools", "add_generation_prompt", "self")


@dataclass(frozen=True)
class ChatPrompt:
    """A prompt with its first token spelled out, and whether the model thinks before it answers."""

    text: str
    thinking: Thinking


def chat_prompt(
    service: Service,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    variables: Mapping[str, Any],
    *,
    add_generation_prompt: bool = True,
) -> ChatPrompt:
    """The prompt for these messages; ApiError (400) where the template refuses them."""
    template = service.llm.artifact.chat_template
    if template is None:
        raise ApiError(
            400, "[chat] this model has no chat template -> /v1/completions", param="messages"
        )
    for name in _RESERVED:
        if name in variables:
            raise ApiError(
                400,
                f"[request] chat_template_kwargs.{name} -> one of the template's own variables",
                param=f"chat_template_kwargs.{name}",
            )
    given = {"tools": [plain(tool) for tool in tools]} if tools else {}
    try:
        text = service.llm.chat_prompt(
            [for_template(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **given,
            **variables,
        )
    except ChatError as error:
        raise ApiError(400, str(error), param="messages") from None
    return ChatPrompt(text, thinking_of(template.read_text(encoding="utf-8"), text))


def plain(tool: Tool) -> dict[str, Any]:
    """A tool as it was sent, in the order of fields that models were trained on."""
    return tool.model_dump(exclude_unset=True)
