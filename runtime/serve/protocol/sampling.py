"""The fields that both ways of generating have, and the sampling parameters that they mean.

Names, ranges and defaults are OpenAI's, those of the extensions vLLM's.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.protocol.body import Body
from ferrum.runtime.serve.protocol.structured import ResponseFormat, StructuredOutputs

# Below this a draw is the likeliest token whatever the logits are.
_COLDEST = 1e-4
_NO_SEED = -1  # as clients of llama.cpp and vLLM have it

StopString = Annotated[str, Field(min_length=1, max_length=1000)]
TokenId = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]


class StreamOptions(Body):
    """How a stream reports."""

    include_usage: bool | None = Field(
        None,
        description="true: an event without choices at the end has the usage, as OpenAI's do; "
        "false: none has; left out: the event with the last finish_reason has it",
    )
    include_obfuscation: bool | None = Field(None, description="accepted, without effect")


class Sampling(Body):
    """What prompts of either kind can be asked with."""

    model: str | None = Field(None, description="a served model; left out, the one there is")
    stream: bool | None = Field(None, description="send server-sent events as the text comes")
    stream_options: StreamOptions | None = Field(None, description="only with stream")
    n: int | None = Field(None, ge=1, le=1 << 20, description="choices to generate; default 1")
    temperature: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False,
        description="0 takes the likeliest token; default 1",
    )  # fmt: skip
    top_p: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False,
        description="draw from the likeliest tokens that make up this share; 0 takes the likeliest "
        "alone; default 1",
    )  # fmt: skip
    top_k: int | None = Field(
        None, ge=-1, le=(1 << 31) - 1,
        description="extension: draw from the k likeliest tokens; 0, the default, or -1: from all",
    )  # fmt: skip
    min_p: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False,
        description="extension: drop tokens less likely than this share of the likeliest; "
        "default 0",
    )  # fmt: skip
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, allow_inf_nan=False,
        description="subtract from the logits of tokens that the text already has; default 0",
    )  # fmt: skip
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, allow_inf_nan=False,
        description="subtract as often as the text has the token; default 0",
    )  # fmt: skip
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=100, allow_inf_nan=False,
        description="extension: divide positive and multiply negative logits of tokens that "
        "prompt or text already have; default 1",
    )  # fmt: skip
    seed: int | None = Field(
        None, ge=-(1 << 63), le=(1 << 63) - 1,
        description="the same seed draws the same text; choice i uses seed + i; -1 is as good as "
        "none",
    )  # fmt: skip
    stop: StopString | Annotated[list[StopString], Field(max_length=16, fail_fast=True)] | None = (
        Field(None, description="end before the first of these strings")
    )
    stop_token_ids: Annotated[list[TokenId], Field(max_length=1024, fail_fast=True)] | None = Field(
        None, description="extension: end at the first of these tokens"
    )
    ignore_eos: bool | None = Field(
        None, description="extension: go on past the model's end tokens"
    )
    priority: int | None = Field(
        None, ge=-(1 << 31), le=(1 << 31) - 1,
        description="extension: requests of a lower value are served first; default 0",
    )  # fmt: skip
    response_format: ResponseFormat | None = Field(None, description="what the text must be")
    structured_outputs: StructuredOutputs | None = Field(
        None, description="extension: what the text must be, in further ways"
    )
    logit_bias: dict[str, Any] | None = Field(
        None, max_length=0, description="not supported: may only be empty"
    )
    user: str | None = Field(None, description="accepted, without effect")
    metadata: dict[str, Any] | None = Field(None, description="accepted, without effect")
    store: bool | None = Field(None, description="accepted, without effect: nothing is kept")
    service_tier: str | None = Field(None, description="accepted, without effect")
    safety_identifier: str | None = Field(None, description="accepted, without effect")
    prompt_cache_key: str | None = Field(
        None, description="accepted, without effect: equal beginnings are found by themselves"
    )
    prompt_cache_options: dict[str, Any] | None = Field(
        None, description="accepted, without effect"
    )
    prompt_cache_retention: str | None = Field(None, description="accepted, without effect")

    @property
    def choices(self) -> int:
        """How many texts for a prompt."""
        return 1 if self.n is None else self.n

    def params(
        self, choice: int, *, max_tokens: int | None, logprobs: int | None
    ) -> SamplingParams:
        """How choice number `choice` is sampled."""
        given = {name: value for name in _SAME if (value := getattr(self, name)) is not None}
        temperature = 1.0 if self.temperature is None else float(self.temperature)
        greedy = temperature < _COLDEST or self.top_p == 0
        return SamplingParams(
            **given,
            temperature=0.0 if greedy else temperature,
            top_k=max(0, self.top_k or 0),
            top_p=self.top_p or 1.0,
            seed=self._seed(choice),
            max_tokens=max_tokens,
            logprobs=logprobs,
        )

    def _seed(self, choice: int) -> int | None:
        if self.seed is None or self.seed == _NO_SEED:
            return None
        # Other numbers below zero are seeds for OpenAI, though not for numpy.
        return (self.seed + choice) % (1 << 64)


# Fields that are called the same in SamplingParams.
_SAME = (
    "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "stop",
    "stop_token_ids", "ignore_eos",
)  # fmt: skip
