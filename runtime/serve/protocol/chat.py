"""/v1/chat/completions: its request, its answer and the events of its stream."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ferrum.runtime.serve.protocol.answers import Answer, FinishReason, Usage
from ferrum.runtime.serve.protocol.body import Body
from ferrum.runtime.serve.protocol.messages import Messages, Tools
from ferrum.runtime.serve.protocol.sampling import Sampling


class FunctionName(Body):
    """A function by its name."""

    name: str


class ForcedTool(Body):
    """The one tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class Moderation(Body):
    """What is to judge prompt and answer. Nothing does here."""

    model: str = Field(description="accepted, without effect")
    policy: None = Field(None, description="not supported: may only be null")


class ChatRequest(Sampling):
    """A conversation to be continued by the assistant."""

    messages: Messages
    max_completion_tokens: int | None = Field(
        None, ge=1, description="most tokens to generate; by default what the context has room for"
    )
    max_tokens: int | None = Field(None, ge=1, description="the older name of the same")
    logprobs: bool | None = Field(None, description="report each token's log-probability")
    top_logprobs: int | None = Field(
        None, ge=0, le=20,
        description="and those of this many likeliest tokens; only with logprobs",
    )  # fmt: skip
    tools: Tools | None = Field(None, description="functions that the model may call")
    tool_choice: Literal["none", "auto", "required"] | ForcedTool | None = Field(
        None, description="whether it may, must, or must call a certain one; default auto"
    )
    parallel_tool_calls: bool | None = Field(
        None, description="false: a forced call is one call; default true"
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None,
        description="extension: variables of the model's chat template, such as enable_thinking",
    )
    reasoning_effort: str | None = Field(
        None,
        max_length=64,
        description="none: as enable_thinking false; passed on to the chat template",
    )
    modalities: Annotated[list[Literal["text"]], Field(max_length=1, fail_fast=True)] | None = (
        Field(None, description="text is all there is")
    )
    prediction: dict[str, Any] | None = Field(None, description="accepted, without effect")
    verbosity: str | None = Field(None, description="accepted, without effect")
    moderation: Moderation | None = Field(None, description="accepted, without effect")
    audio: None = Field(None, description="not supported: may only be null")
    web_search_options: None = Field(None, description="not supported: may only be null")
    functions: list[Any] | None = Field(
        None, max_length=0, description="what tools were once: may only be empty"
    )
    function_call: Literal["none", "auto"] | None = Field(
        None, description="what tool_choice was once: without effect, as there are no functions"
    )


class TokenLogprob(Answer):
    """A token and the natural log of its probability, at least -9999."""

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(TokenLogprob):
    """A generated token, and what was likeliest in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Answer):
    """One item for each generated token, those of reasoning and the end token included."""

    content: list[ContentLogprob]
    refusal: None


class AnswerFunction(Answer):
    """Which function, with what."""

    name: str
    arguments: str


class ToolCall(Answer):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: AnswerFunction


class AnswerMessage(Answer):
    """What the model answers."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(Answer):
    """One of n answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Answer):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class FunctionDelta(Answer):
    """Name, in a call's first delta alone, and more of the arguments."""

    name: str | None = None
    arguments: str


class ToolCallDelta(Answer):
    """More of a tool call."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class MessageDelta(Answer):
    """More of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(Answer):
    """More of one of n answers."""

    index: int
    delta: MessageDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Answer):
    """The data of an event; after the last comes the data [DONE]."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
