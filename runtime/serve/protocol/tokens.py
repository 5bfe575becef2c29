"""/tokenize and /detokenize, as vLLM's: their requests and answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ferrum.runtime.serve.protocol.answers import Answer
from ferrum.runtime.serve.protocol.body import Body
from ferrum.runtime.serve.protocol.messages import Messages, Tools
from ferrum.runtime.serve.protocol.sampling import TokenId


class TokenizeRequest(Body):
    """A text, or the messages of a chat, to be made tokens."""

    model: str | None = Field(None, description="a served model; left out, the one there is")
    prompt: str | None = Field(None, description="a text; this or messages")
    messages: Messages | None = Field(None, description="a conversation; this or prompt")
    tools: Tools | None = Field(None, description="with messages: functions the model may call")
    add_special_tokens: bool | None = Field(
        None,
        description="with prompt: put the model's first token in front where it wants one, as "
        "/v1/completions does; default true",
    )
    add_generation_prompt: bool | None = Field(
        None, description="with messages: end where the assistant begins; default true"
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="with messages: variables of the chat template"
    )
    return_token_strs: bool | None = Field(None, description="answer with each token's text too")


class TokenizeAnswer(Answer):
    """Token ids."""

    count: int
    max_model_len: int  # tokens of a prompt and its continuation
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeRequest(Body):
    """Token ids to be made a text."""

    model: str | None = Field(None, description="a served model; left out, the one there is")
    tokens: Annotated[list[TokenId], Field(fail_fast=True)]


class DetokenizeAnswer(Answer):
    """The text, special tokens spelled out."""

    prompt: str
