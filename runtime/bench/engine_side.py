"""A case on llama.cpp or another engine, with the same tokens cut into the same steps."""

from __future__ import annotations

import time
from typing import Any

from ferrum.runtime.bench.cases import Case, Tokens, chunks
from ferrum.runtime.bench.engine import Engine
from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.llama import UBATCH, Piece


class EngineSide:
    """One GGUF; a context of its own for every case."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def open(self, case: Case, profile: bool) -> dict[str, Any]:
        """Make a context, and fill its caches to the context of a decode."""
        if profile:
            raise BenchError("[--profile] is of ferrum alone")
        self._case = case
        self._engine.open(sequences=case.batch, length=case.length, threads=case.threads)
        self._tokens = Tokens.of(case, self._engine.vocabulary)
        if case.kind == "decode":
            self._prefill()
        return {"cache_tokens": self._engine.cells}

    def run(self) -> float:
        """Seconds of one repetition, without sampling; the caches are as before it."""
        case, start = self._case, time.perf_counter()
        if case.kind == "prefill":
            self._prefill()
        else:
            for done, step in enumerate(self._tokens.steps):
                self._engine.decode(
                    [Piece(i, [token], case.context + done, True) for i, token in enumerate(step)]
                )
        seconds = time.perf_counter() - start
        for sequence in range(case.batch):
            self._engine.trim(sequence, case.context)
        return seconds

    def profile(self) -> list[dict[str, Any]]:
        """Not here."""
        raise BenchError("[--profile] is of ferrum alone")

    def close(self) -> None:
        """Give the context back."""
        self._engine.close()

    def _prefill(self) -> None:
        prompts = self._tokens.prompts
        for step in chunks([len(prompt) for prompt in prompts], UBATCH):
            self._engine.decode(
                [Piece(s, prompts[s][a:b], a, b == len(prompts[s])) for s, a, b in step]
            )
