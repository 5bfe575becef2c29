"""What a caller gives as a prompt, one or several, to token ids. What is neither is a TypeError."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ferrum.runtime.tokenizer import Tokenizer

Prompt = str | Sequence[int]  # a text or token ids


def token_ids(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """The tokens of a prompt; the session says whether it can run them."""
    if isinstance(prompt, str):
        return tokenizer.encode(prompt)
    _refuse_others(prompt)
    return [_token(token) for token in prompt]


def as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as a list of them."""
    if isinstance(prompts, str):
        return [prompts]
    _refuse_others(prompts)
    several = list(prompts)
    if several and isinstance(several[0], (int, np.integer)):
        return [cast(Sequence[int], several)]
    return cast(list[Prompt], several)


def _refuse_others(prompts: Any) -> None:
    # Bytes would pass for token ids, and a dict's keys for prompts.
    if isinstance(prompts, (bytes, bytearray, dict)) or not hasattr(prompts, "__iter__"):
        raise TypeError(f"[prompt] got {type(prompts).__name__} -> a text, or token ids")


def _token(token: Any) -> int:
    try:
        return operator.index(token)
    except TypeError:
        raise TypeError(f"[prompt] a token, got {str(token)[:80]!r} -> an integer") from None
