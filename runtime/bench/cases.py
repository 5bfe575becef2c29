"""What is measured: a kind of work with its lengths, and the very tokens that all sides are fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["prefill", "decode"]


@dataclass(frozen=True)
class Case:
    """One thing to time.

    prefill: `batch` prompts of `tokens` tokens each, from empty caches (`context` is 0).
    decode: `tokens` steps, each one token for every one of `batch` sequences of `context` tokens.
    """

    kind: Kind
    tokens: int
    batch: int
    context: int
    threads: int

    @property
    def length(self) -> int:
        """Tokens of a sequence at the end."""
        return self.context + self.tokens

    @property
    def all_tokens(self) -> int:
        """Tokens that one repetition takes, over all sequences."""
        return self.tokens * self.batch

    @property
    def label(self) -> str:
        """Its name in tables, without the threads."""
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        at = f" at {self.context:,}" if self.kind == "decode" else ""
        return f"{self.kind} {self.tokens:,}{at}{batch}"


def cases(
    *,
    prefill: Sequence[int],
    decode: Sequence[int],
    contexts: Sequence[int],
    batches: Sequence[int],
    threads: Sequence[int],
) -> list[Case]:
    """All combinations, prompts first."""
    prompts = [Case("prefill", n, b, 0, t) for t in threads for n in prefill for b in batches]
    steps = [
        Case("decode", n, b, c, t)
        for t in threads
        for n in decode
        for c in contexts
        for b in batches
    ]
    return prompts + steps


@dataclass(frozen=True)
class Tokens:
    """Random token ids of a case: the same numbers on every side and in every run."""

    prompts: list[list[int]]  # per sequence: the prompt, or what is in the caches before decoding
    steps: list[list[int]]  # per step of a decode: one token for each sequence

    @classmethod
    def of(cls, case: Case, vocabulary: int) -> Tokens:
        """Drawn from the whole vocabulary with a fixed seed."""
        random = np.random.default_rng(0)
        length = case.tokens if case.kind == "prefill" else case.context
        prompts = random.integers(vocabulary, size=(case.batch, length)).tolist()
        count = case.tokens if case.kind == "decode" else 0
        return cls(prompts, random.integers(vocabulary, size=(count, case.batch)).tolist())


def chunks(lengths: Sequence[int], most: int) -> list[list[tuple[int, int, int]]]:
    """Prompts cut into steps of at most `most` tokens: (sequence, start, end) in each step."""
    steps: list[list[tuple[int, int, int]]] = []
    room = 0
    for sequence, length in enumerate(lengths):
        start = 0
        while start < length:
            if room == 0:
                steps.append([])
                room = most
            end = min(length, start + room)
            steps[-1].append((sequence, start, end))
            room -= end - start
            start = end
    return steps
