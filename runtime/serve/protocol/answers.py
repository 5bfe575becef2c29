"""What answers of several endpoints share. They are written as plain dicts; this describes them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

FinishReason = Literal["stop", "length", "tool_calls"]


class Answer(BaseModel):
    """An object of an answer: nothing else is in it than what is described."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ErrorInfo(Answer):
    """Why a request was not answered."""

    message: str
    type: str
    param: str | None  # the field at fault
    code: str | None


class ErrorAnswer(Answer):
    """The body of every answer that is not a success."""

    error: ErrorInfo


class PromptTokensDetails(Answer):
    """Where a prompt's tokens came from."""

    cached_tokens: int  # were not computed, as an earlier request had them


class Usage(Answer):
    """Tokens of a request; a prompt counts once, however many choices it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ModelCard(Answer):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int  # tokens of a prompt and its continuation


class ModelList(Answer):
    """The models that are served."""

    object: Literal["list"]
    data: list[ModelCard]


class HealthAnswer(Answer):
    """Whether the server takes requests."""

    status: Literal["ok", "draining", "failed"]
