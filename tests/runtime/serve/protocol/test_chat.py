"""Every field of OpenAI's chat is known here: taken, taken without effect, or refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import chat, shared_params
from openai.types.chat.chat_completion_message_function_tool_call_param import (
    Function as CalledFunctionParam,
)
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.shared_params.response_format_json_schema import JSONSchema

from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.protocol import messages, structured
from ferrum.runtime.serve.protocol.body import Body
from ferrum.runtime.serve.protocol.chat import ChatRequest, ForcedTool
from ferrum.runtime.serve.protocol.sampling import StreamOptions

OPENAIS: list[tuple[Any, type[Body]]] = [
    (CompletionCreateParamsBase, ChatRequest),
    (chat.ChatCompletionStreamOptionsParam, StreamOptions),
    (chat.ChatCompletionNamedToolChoiceParam, ForcedTool),
    (chat.ChatCompletionContentPartTextParam, messages.TextPart),
    (chat.ChatCompletionContentPartRefusalParam, messages.RefusalPart),
    (chat.ChatCompletionSystemMessageParam, messages.SystemMessage),
    (chat.ChatCompletionDeveloperMessageParam, messages.SystemMessage),
    (chat.ChatCompletionUserMessageParam, messages.UserMessage),
    (chat.ChatCompletionAssistantMessageParam, messages.AssistantMessage),
    (chat.ChatCompletionToolMessageParam, messages.ToolMessage),
    (chat.ChatCompletionMessageFunctionToolCallParam, messages.MessageToolCall),
    (CalledFunctionParam, messages.CalledFunction),
    (chat.ChatCompletionFunctionToolParam, messages.Tool),
    (shared_params.FunctionDefinition, messages.Function),
    (shared_params.ResponseFormatText, structured.TextFormat),
    (shared_params.ResponseFormatJSONObject, structured.JsonObjectFormat),
    (shared_params.ResponseFormatJSONSchema, structured.JsonSchemaFormat),
    (JSONSchema, structured.NamedSchema),
]


@pytest.mark.parametrize(("openais", "ours"), OPENAIS, ids=[one.__name__ for one, _ in OPENAIS])
def test_every_field_of_openais_is_known(openais: Any, ours: type[Body]) -> None:
    known = {field.alias or name for name, field in ours.model_fields.items()}
    assert set(openais.__annotations__) - known == set()


def read(**fields: Any) -> ChatRequest:
    body = {"messages": [{"role": "user", "content": "a"}], **fields}
    return ChatRequest.read(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("audio", {"voice": "alloy", "format": "wav"}, "null: it is not supported"),
        ("web_search_options", {}, "null: it is not supported"),
        ("functions", [{"name": "f"}], "empty: it is not supported"),
        ("function_call", {"name": "f"}, "'none' or 'auto'"),
        ("moderation.policy", {"output": {"mode": "block"}}, "null: it is not supported"),
        ("logit_bias", {"5": 1}, "empty: it is not supported"),
        ("modalities[0]", ["audio"], "'text'"),
    ],
)
def test_what_would_change_the_answer_is_refused(field: str, value: Any, wanted: str) -> None:
    if field == "moderation.policy":
        fields: dict[str, Any] = {"moderation": {"model": "m", "policy": value}}
    else:
        fields = {field.removesuffix("[0]"): value}
    with pytest.raises(ApiError) as refused:
        read(**fields)
    assert refused.value.param == field
    assert refused.value.message.endswith(f" -> {wanted}")


def test_null_is_as_good_as_left_out() -> None:
    assert read(**dict.fromkeys(("audio", "web_search_options", "functions", "function_call"))) == (
        read()
    )
