"""Logits to the next token: penalties, mask, temperature, top-k, top-p, min-p, a draw.

The order is that of transformers and vLLM (temperature before the cuts), so that a model card's
recommended values mean here what they mean there; llama.cpp applies temperature last.

Each sequence has a generator of its own, so what it draws depends on its seed and its logits
alone, never on its neighbours in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ferrum.runtime.largest import largest
from ferrum.runtime.likeliest import MOST, Likeliest

Floats = npt.NDArray[np.float32]
Mask = Callable[[Sequence[int]], "npt.NDArray[np.bool_] | None"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


_COLDEST = 1e-20  # below it a draw is the likeliest token, and float32 has no room for the scale


class SamplingError(ValueError):
    """A sampling parameter that does not exist or has a value that is not allowed; one line."""


class SamplingParams(BaseModel):
    """How a sequence is continued. The defaults are greedy."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True
    )

    temperature: Finite = Field(
        0.0, ge=0.0, description="0 takes the likeliest token; 1 draws as the model says"
    )  # what is colder than _COLDEST is 0
    top_k: int = Field(0, ge=0, description="draw from the k likeliest tokens; 0 from all")
    top_p: Finite = Field(
        1.0, gt=0.0, le=1.0, description="draw from the likeliest tokens that make up this share"
    )
    min_p: Finite = Field(
        0.0, ge=0.0, le=1.0,
        description="drop tokens less likely than this share of the likeliest",
    )  # fmt: skip
    repetition_penalty: Finite = Field(
        1.0, ge=0.01, le=100.0,
        description="divide positive and multiply negative logits of tokens that prompt or text "
        "already have",
    )  # fmt: skip
    presence_penalty: Finite = Field(
        0.0, ge=-1000.0, le=1000.0,
        description="subtract from the logits of tokens that the text already has",
    )  # fmt: skip
    frequency_penalty: Finite = Field(
        0.0, ge=-1000.0, le=1000.0,
        description="subtract as often as the text has the token",
    )  # fmt: skip
    seed: int | None = Field(None, ge=0, description="the same seed draws the same text")
    max_tokens: int | None = Field(
        512,
        ge=1,
        description="most tokens to generate; none is all that the context has room for",
    )
    stop: tuple[str, ...] = Field(
        (), description="end before the first of these strings; the text does not include it"
    )
    stop_token_ids: tuple[int, ...] = Field((), description="end at the first of these tokens")
    ignore_eos: bool = Field(False, description="go on past the model's end tokens")
    logprobs: int | None = Field(
        None, ge=0,
        description="report each token's log-probability, and those of this many likeliest",
    )  # fmt: skip
    mask: Mask | None = Field(
        None,
        exclude=True,
        description="called before each token with what was generated so far; returns which "
        "tokens of the vocabulary are allowed, bool[vocabulary], or None for all",
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SamplingError(_sentence(error)) from None

    @field_validator("temperature")
    @classmethod
    def _scale(cls, value: float) -> float:
        return value if value >= _COLDEST else 0.0

    @field_validator("stop", mode="before")
    @classmethod
    def _strings(cls, value: Any) -> Any:
        strings = (value,) if isinstance(value, str) else value
        strings = tuple(strings) if isinstance(strings, list) else strings
        if isinstance(strings, tuple) and "" in strings:
            raise ValueError("strings that are not empty")
        return strings

    @field_validator("stop_token_ids", mode="before")
    @classmethod
    def _ids(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Sampler:
    """The state of one sequence's sampling: its generator and which tokens it has seen."""

    def __init__(self, params: SamplingParams, prompt: Sequence[int], vocabulary: int) -> None:
        self.params = params
        self._random = np.random.default_rng(params.seed)
        self._counts: npt.NDArray[np.int32] | None = None  # how often the text has each token
        self._seen: npt.NDArray[np.bool_] | None = None  # which tokens prompt or text have
        if params.presence_penalty or params.frequency_penalty:
            self._counts = np.zeros(vocabulary, np.int32)
        if params.repetition_penalty != 1.0:
            self._seen = np.zeros(vocabulary, np.bool_)
            self._seen[np.asarray(prompt, np.int64)] = True

    @property
    def scale(self) -> float | None:
        """What logits are multiplied by before a draw that their likeliest may decide.

        None where that takes all of them: penalties, a mask, a draw from everything.
        """
        params = self.params
        if params.mask is not None or self._seen is not None or self._counts is not None:
            return None
        if params.temperature == 0.0:
            return 1.0
        cut = 0 < params.top_k <= MOST if params.top_k else params.top_p < 1.0 or params.min_p > 0.0
        return 1.0 / params.temperature if cut else None

    def pick(self, logits: Floats, generated: Sequence[int]) -> int:
        """The next token of a sequence whose last logits are float32[vocabulary]."""
        adjusted = self._masked(self._penalized(logits), generated)
        if self.params.temperature == 0.0:
            token = int(adjusted.argmax())
            if not math.isfinite(adjusted[token]):
                raise SamplingError(f"[sampler] the best logit is {adjusted[token]} -> a number")
        else:
            token = self._draw(*candidates(adjusted, self.params))
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True
        return token

    def pick_among(self, likeliest: Likeliest) -> int | None:
        """The token that `pick` takes, from the likeliest that were found for `scale`.

        None, and nothing was drawn, where all logits are needed after all.
        """
        if self.params.temperature == 0.0:
            return int(likeliest.tokens[0]) if len(likeliest.tokens) else None
        found = candidates_among(likeliest, self.params)
        return None if found is None else self._draw(*found)

    def _penalized(self, logits: Floats) -> Floats:
        if self._seen is None and self._counts is None:
            return logits
        result: Floats = logits.copy()
        if self._seen is not None:
            seen = np.flatnonzero(self._seen)
            penalty = np.float32(self.params.repetition_penalty)
            values = result[seen]
            result[seen] = np.where(values > 0, values / penalty, values * penalty)
        if self._counts is not None:
            used = np.flatnonzero(self._counts)
            result[used] -= np.float32(self.params.presence_penalty)
            result[used] -= np.float32(self.params.frequency_penalty) * self._counts[used]
        return result

    def _masked(self, logits: Floats, generated: Sequence[int]) -> Floats:
        if self.params.mask is None:
            return logits
        allowed = self.params.mask(generated)
        if allowed is None:
            return logits
        wanted = f"bool{list(logits.shape)}"
        if not isinstance(allowed, np.ndarray):
            raise SamplingError(f"[mask] got {type(allowed).__name__} -> {wanted}")
        if allowed.shape != logits.shape or allowed.dtype != np.bool_:
            raise SamplingError(f"[mask] got {allowed.dtype}{list(allowed.shape)} -> {wanted}")
        if not allowed.any():
            raise SamplingError("[mask] allows no token at all")
        return np.where(allowed, logits, np.float32(-np.inf))

    def _draw(self, tokens: npt.NDArray[np.int64], weights: Floats) -> int:
        return int(tokens[position(weights, self._random.random())])


def candidates(logits: Floats, params: SamplingParams) -> tuple[npt.NDArray[np.int64], Floats]:
    """The tokens that a draw is made from, and their weights: 1 for the likeliest.

    They come likeliest first, ties by id, where a top-k or top-p cuts; else by id.
    """
    best = logits.max()
    if not math.isfinite(best):
        raise SamplingError(f"[sampler] the best logit is {best} -> a number")
    scale = np.float32(1.0 / params.temperature)
    if params.top_k:
        tokens = largest(logits, params.top_k)
        weights = np.exp((logits[tokens] - best) * scale)
        return _cut(tokens, weights, weights.sum(dtype=np.float64), params)
    weights = np.exp((logits - best) * scale)
    if params.top_p < 1.0:
        total = weights.sum(dtype=np.float64)
        tokens = _head(weights, params.top_p * total)
        return _cut(tokens, weights[tokens], total, params)
    # The total is what top-p alone is a share of.
    return _cut(_all_tokens(logits.size), weights, 0.0, params)


def candidates_among(
    likeliest: Likeliest, params: SamplingParams
) -> tuple[npt.NDArray[np.int64], Floats] | None:
    """The same tokens and weights, where the likeliest are enough to tell them."""
    tokens, weights, total = likeliest.tokens, likeliest.weights(), likeliest.total
    if params.top_k:
        if params.top_k > len(tokens) and not likeliest.complete:
            return None
        tokens, weights = tokens[: params.top_k], weights[: params.top_k]
        total = weights.sum(dtype=np.float64)
    elif params.top_p < 1.0:
        if weights.sum(dtype=np.float64) <= params.top_p * total and not likeliest.complete:
            return None
    else:
        floor = np.exp((np.float32(likeliest.floor) - likeliest.best) * likeliest.scale)
        if floor >= np.float32(params.min_p):
            return None
        by_id = np.argsort(tokens)
        tokens, weights = tokens[by_id], weights[by_id]
    return _cut(tokens, weights, total, params) if len(tokens) else None


@lru_cache(maxsize=2)
def _all_tokens(vocabulary: int) -> npt.NDArray[np.int64]:
    """Every id in order, made once: it takes a quarter of a draw's time."""
    tokens = np.arange(vocabulary)
    tokens.flags.writeable = False
    return tokens


def _cut(
    tokens: npt.NDArray[np.int64], weights: Floats, total: float, params: SamplingParams
) -> tuple[npt.NDArray[np.int64], Floats]:
    """What top-p and min-p leave of them; `total` is the weight that top-p is a share of."""
    if params.top_p < 1.0:
        # The token that reaches the share is kept, so at least one is.
        reached = np.searchsorted(np.cumsum(weights, dtype=np.float64), params.top_p * total)
        tokens, weights = tokens[: reached + 1], weights[: reached + 1]
    if params.min_p > 0.0:
        likely = np.flatnonzero(weights >= np.float32(params.min_p))
        tokens, weights = tokens[likely], weights[likely]
    return tokens, weights


def _head(weights: Floats, share: float) -> npt.NDArray[np.int64]:
    """The largest positions, in falling order, that together weigh more than `share`.

    A nucleus is mostly small: sorting it alone is many times faster than sorting a vocabulary.
    """
    count = 64
    while count < weights.size:
        head = largest(weights, count)
        if weights[head].sum(dtype=np.float64) > share:
            return head
        count *= 8
    return largest(weights, weights.size)


def position(weights: Floats, u: float) -> int:
    """Where the running sum of the weights first exceeds u (in [0, 1)) of their sum.

    Sums of blocks first, then within one: running sums of a whole vocabulary take milliseconds.
    """
    starts = np.arange(0, weights.size, 512)
    sums = np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))
    target = min(u * sums[-1], np.nextafter(sums[-1], 0.0))
    block = int(np.searchsorted(sums, target, side="right"))
    start = block * 512
    within = np.cumsum(weights[start : start + 512], dtype=np.float64)
    target -= sums[block - 1] if block else 0.0
    # Rounding may leave the target a hair beyond the block's last sum; a weightless token at its
    # end must not be the answer.
    target = min(target, np.nextafter(within[-1], 0.0))
    return start + int(np.searchsorted(within, target, side="right"))


def _sentence(error: ValidationError) -> str:
    """The first of pydantic's findings, as one line of ours."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"[sampling] {name} -> one of {', '.join(sorted(SamplingParams.model_fields))}"
    wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"[sampling] {name}, got {first['input']!r} -> {wanted}"
