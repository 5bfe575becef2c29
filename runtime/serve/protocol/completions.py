"""/v1/completions: its request, its answer and the events of its stream."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ferrum.runtime.serve.protocol.answers import Answer, FinishReason, Usage
from ferrum.runtime.serve.protocol.sampling import Sampling, TokenId

TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
_Texts = Annotated[list[str], Field(min_length=1, fail_fast=True)]
_ManyTokenIds = Annotated[list[TokenIds], Field(min_length=1, fail_fast=True)]


def _kind(prompt: Any) -> str:
    """What the prompt is meant to be, by its first item."""
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    if isinstance(first, list):
        return "list of token ids"
    if isinstance(prompt, list):
        return "list of texts" if isinstance(first, str) else "token ids"
    return "text"


Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[_Texts, Tag("list of texts")]
    | Annotated[TokenIds, Tag("token ids")]
    | Annotated[_ManyTokenIds, Tag("list of token ids")],
    Discriminator(_kind),
]


class CompletionRequest(Sampling):
    """Texts to be continued."""

    prompt: Prompt = Field(description="a text, token ids, or a list of either")
    max_tokens: int | None = Field(None, ge=1, description="most tokens to generate; default 16")
    echo: bool | None = Field(
        None, description="put the prompt in front of the text; not with logprobs"
    )
    logprobs: int | None = Field(
        None, ge=0, le=20,
        description="report each token's log-probability, and those of this many likeliest",
    )  # fmt: skip
    best_of: int | None = Field(None, ge=1, description="not supported: may only be n")
    suffix: str | None = Field(None, max_length=0, description="not supported: may only be empty")


class TextLogprobs(Answer):
    """One item for each generated token, the end token included."""

    tokens: list[str]
    token_logprobs: list[float]  # natural logs, at least -9999
    top_logprobs: list[dict[str, float]]  # the likeliest, and the token itself
    text_offset: list[int]  # characters of the text before the token


class TextChoice(Answer):
    """A continuation; that number i of prompt number p is number p * n + i."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


class Completion(Answer):
    """The continuations of texts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class TextChunkChoice(Answer):
    """More of a continuation."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(Answer):
    """The data of an event; after the last comes the data [DONE]."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChunkChoice]
    usage: Usage | None = None
