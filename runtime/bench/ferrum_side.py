"""A case on ferrum: the runtime's session, fed as its engine feeds it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ferrum.custom_ops.library import read_profile
from ferrum.runtime.artifact import Artifact
from ferrum.runtime.bench.cases import Case, Tokens, chunks
from ferrum.runtime.bench.machine import physical_cores
from ferrum.runtime.profile import stages
from ferrum.runtime.session import Part, Session
from ferrum.runtime.settings import Settings


class FerrumSide:
    """One export; a session of its own for every case, with caches as large as the case needs."""

    def __init__(self, model: Path, device: str) -> None:
        self._artifact, self._device = Artifact.open(model), device
        self._session: Session | None = None

    def open(self, case: Case, profile: bool) -> dict[str, Any]:
        """Load the graph, and fill the caches to the context of a decode."""
        asked = Settings.read(device=self._device)
        blocks = case.batch * -(-case.length // asked.block_size)
        settings = asked.but(
            # The default is not to set it: ONNX Runtime then also pins its threads.
            threads=0 if case.threads == physical_cores() else case.threads,
            kv_capacity=blocks * asked.block_size,
            max_sequences=case.batch,
            step_tokens=max(asked.step_tokens, case.batch),
            profile=profile,
            trace_out=None,
        )
        self._case, self._step_tokens = case, settings.step_tokens
        self._session = session = Session.open(self._artifact, settings)
        self._tokens = Tokens.of(case, session.vocabulary)
        for prompt in self._tokens.prompts:
            session.check(prompt, beyond=case.length - len(prompt))
        self._sequences = [session.sequence() for _ in range(case.batch)]
        if case.kind == "decode":
            self._prefill()
        return {"cache_tokens": session.kv_capacity()}

    def run(self) -> float:
        """Seconds of one repetition, without sampling; the caches are as before it."""
        start = time.perf_counter()
        if self._case.kind == "prefill":
            self._prefill()
        else:
            for step in self._tokens.steps:
                self._step([Part(s, [t]) for s, t in zip(self._sequences, step, strict=True)])
        seconds = time.perf_counter() - start
        for sequence in self._sequences:
            sequence.length = self._case.context
            sequence.trim()
        return seconds

    def profile(self) -> list[dict[str, Any]]:
        """Where the time of one repetition goes, by the library's own clocks."""
        assert self._session is not None
        self._session.clock.clear()
        read_profile(reset=True)
        self.run()
        rows = stages(self._session.clock, read_profile())
        return [{"stage": row.name, "seconds": row.seconds, "share": row.share} for row in rows]

    def close(self) -> None:
        """Give the case's caches back."""
        self._session, self._sequences = None, []

    def _prefill(self) -> None:
        prompts = self._tokens.prompts
        for step in chunks([len(prompt) for prompt in prompts], self._step_tokens):
            self._step([Part(self._sequences[s], prompts[s][a:b]) for s, a, b in step])

    def _step(self, parts: list[Part]) -> None:
        assert self._session is not None
        with self._session.clock.measure("step"):
            self._session.clock.steps += 1
            self._session.run(parts)
