"""Logits to natural logs of probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from ferrum.runtime.largest import largest

Floats = npt.NDArray[np.float32]


class TokenLogprobs(BaseModel):
    """Natural logs of the model's own probabilities, before penalties and temperature."""

    model_config = ConfigDict(frozen=True)

    logprob: float  # of the token that was taken
    top: tuple[tuple[int, float], ...]  # (token, log-probability), the likeliest first


def logprobs_of(logits: Floats, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """The log-probability of one token per row of float32[rows, vocabulary]: float64[rows]."""
    rows = zip(logits, tokens, strict=True)
    return np.array([token_logprobs(row, token, 0).logprob for row, token in rows])


def token_logprobs(logits: Floats, token: int, count: int) -> TokenLogprobs:
    """The log-probability of `token`, and the `count` likeliest, from float32[vocabulary]."""
    wide = logits.astype(np.float64)
    best = wide.max()
    normal = best + np.log(np.exp(wide - best).sum())
    top = largest(wide, count) if count else np.empty(0, np.int64)
    return TokenLogprobs(
        logprob=float(wide[token] - normal),
        top=tuple((int(i), float(wide[i] - normal)) for i in top),
    )
