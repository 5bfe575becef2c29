"""The decode session: sequences by id over one graph and its paged KV caches.

session = Session.open("model.onnx")
logits = session.prefill("a", [1, 2, 3])     # float32[vocabulary], of the last token
logits = session.decode("a", 4)
session.release("a")

Every call does all or nothing: what it refuses leaves every sequence as it was. A session is for
one thread at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable
from collections.abc import Sequence as Items
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from ferrum.runtime.artifact import Artifact
from ferrum.runtime.batcher import Row
from ferrum.runtime.ctrl_c import ctrl_c_waits
from ferrum.runtime.graph import Graph
from ferrum.runtime.logits import StepLogits
from ferrum.runtime.placement import Closed, on_device, on_host
from ferrum.runtime.profile import Clock
from ferrum.runtime.sequence import Sequence
from ferrum.runtime.session_errors import (
    BadToken,
    CacheFull,
    ContextTooLong,
    NoTokens,
    RepeatedSequence,
    StartMismatch,
    TooManySequences,
    UnknownSequence,
)
from ferrum.runtime.settings import Settings
from ferrum.runtime.trace import Trace

SequenceId = Hashable
Logits = npt.NDArray[np.float32]

# Logits of every token of a piece are large where the vocabulary is: 64 MB of them at a time.
_MOST_LOGITS = 1 << 24


class Part(NamedTuple):
    """Tokens for the end of a sequence, in one step.

    With `every` the step gives logits of each of them instead of the last one's. They go in as that
    many rows of one token that share a block table: all keys are written before any of them
    attends, so each sees exactly those before it.
    """

    sequence: Sequence
    tokens: Items[int]
    every: bool = False


class Session:
    """Sequences that share one graph, one pool of blocks and one step at a time."""

    def __init__(self, graph: Graph, settings: Settings, trace: Trace | None = None) -> None:
        """Makes caches and buffers for a loaded graph; `trace` keeps what the graph captures."""
        model = graph.manifest.model
        make = on_device if settings.device == "cuda" else on_host
        self._graph = graph
        self.pool, self.caches, self._binding, self._batcher = make(graph, settings)
        self.settings = settings
        self._trace = trace
        self._sequences: dict[SequenceId, Sequence] = {}
        self.context_length = model.context_length
        self.pages = graph.pages  # of the weights, as they were when the graph was loaded
        self.max_sequences, self.step_tokens = settings.max_sequences, settings.step_tokens
        self.clock = Clock(keep_spans=settings.trace_out is not None)

    @classmethod
    def open(cls, model: str | Path | Artifact, settings: Settings | None = None) -> Session:
        """A session of an export; ArtifactError or SettingsError says what is wrong with them."""
        artifact = model if isinstance(model, Artifact) else Artifact.open(model)
        chosen = Settings.read() if settings is None else settings
        return cls(Graph.load(artifact, chosen), chosen)

    @property
    def vocabulary(self) -> int:
        """How many logits a token has."""
        return self._batcher.vocabulary

    @property
    def sequences(self) -> list[SequenceId]:
        """The ids that are open."""
        return list(self._sequences)

    def open_sequences(self) -> list[Sequence]:
        """The sequences of those ids."""
        return list(self._sequences.values())

    def kv_capacity(self) -> int:
        """Tokens that the caches hold, over all sequences."""
        return self.pool.blocks * self.pool.block_size

    def free_blocks(self) -> int:
        """Blocks that no sequence has, those included that are kept for prompts to come."""
        return self.pool.free

    def longest(self) -> int:
        """Tokens of the longest sequence that can be: a context, or all of the caches."""
        return min(self.context_length, self.kv_capacity())

    def length(self, seq: SequenceId) -> int:
        """Tokens of a sequence that are in the caches."""
        return self._known(seq).length

    def prepare(self, max_tokens: int = 1) -> None:
        """Grow the buffers for steps of `max_tokens` tokens and warm the kernels up with one.

        The step runs on a sequence of its own, whose blocks are given back. CacheFull or
        ContextTooLong where such a step could not run.
        """
        if max_tokens < 1:
            raise NoTokens(f"[prepare] max_tokens, got {max_tokens} -> 1 or more")
        private = self.sequence()
        self._check_fit([("warm-up", private, max_tokens)])
        try:
            for size in _chunks(max_tokens, self.step_tokens):
                self.run([Part(private, [0] * size)])
        finally:
            private.release()

    def prefill(self, seq: SequenceId, tokens: Items[int], start: int | None = None) -> Logits:
        """Append tokens to a sequence (a new one where the id is new).

        Returns the last token's logits, float32[vocabulary]. `start`, where given, must be the
        sequence's length: a caller that counts positions finds out at once when it miscounts.
        """
        *_, last = self._append(seq, tokens, start, every=False)
        return cast(Logits, last[-1].copy())

    def prefill_all(self, seq: SequenceId, tokens: Items[int]) -> Logits:
        """As `prefill`, with the logits of each of the tokens: float32[tokens, vocabulary]."""
        return np.concatenate([part.copy() for part in self.prefill_parts(seq, tokens)])

    def prefill_parts(self, seq: SequenceId, tokens: Items[int]) -> Generator[Logits, None, None]:
        """As `prefill_all`, some tokens at a time, in a buffer that the next part overwrites.

        Parts that are not asked for take back those that were.
        """
        return self._append(seq, tokens, None, every=True)

    def decode(self, seq: SequenceId, token: int) -> Logits:
        """Append one token to a sequence that is there; its logits, float32[vocabulary]."""
        return cast(Logits, self.decode_batch([(seq, token)])[0])

    def decode_batch(self, pairs: Items[tuple[SequenceId, int]]) -> Logits:
        """Append one token each to several sequences, in one step.

        Returns float32[len(pairs), vocabulary] in the order of the pairs.
        """
        if not pairs:
            return np.empty((0, self.vocabulary), np.float32)
        return cast(Logits, self.step([(seq, [token]) for seq, token in pairs]).copy())

    def step(self, pieces: Items[tuple[SequenceId, Items[int]]]) -> Logits:
        """Append tokens to several sequences at once, each any number: one run of the graph.

        Returns the logits of each piece's last token, float32[len(pieces), vocabulary], in a
        buffer that the next step overwrites.
        """
        seen: set[SequenceId] = set()
        for seq, tokens in pieces:
            if seq in seen:
                raise RepeatedSequence(f"[sequence {seq!r}] is twice in one step")
            seen.add(seq)
            self._check_tokens(f"sequence {seq!r}", tokens)
        self._check_fit([(seq, self._known(seq), len(tokens)) for seq, tokens in pieces])
        parts = [Part(self._sequences[seq], tokens) for seq, tokens in pieces]
        lengths = [part.sequence.length for part in parts]
        try:
            return self.run(parts).host()
        except BaseException:
            with ctrl_c_waits:
                for part, length in zip(parts, lengths, strict=True):
                    part.sequence.cut(length)
            raise

    def sequence(self) -> Sequence:
        """An empty sequence for `run`, kept by the caller and known under no id."""
        return Sequence(self.pool, self.context_length)

    def run(self, parts: Items[Part], *, once: bool = False) -> StepLogits:
        """As `step`, over sequences that the caller keeps and tokens that `check` has passed.

        The logits stay where the graph has left them until they are asked for. `once`: the step is
        not one of many alike. Where it fails, sequences keep the blocks that they have taken for
        it, until they are cut.
        """
        with ctrl_c_waits:
            rows: list[Row] = []
            for part in parts:  # one loop: of many rows, Python's calls are the host's time
                sequence, tokens, every = part
                sequence.reserve(len(tokens))
                if every:
                    rows += _row_of_each(part)
                else:
                    rows.append(Row(tokens, sequence.length, sequence.blocks))
            logits = self._run(rows, once=once)
            for part in parts:
                part.sequence.length += len(part.tokens)
            return logits

    def check(self, tokens: Items[int], beyond: int = 0) -> None:
        """Raise where a sequence could never hold these tokens and `beyond` more, all alone."""
        self._check_tokens("prompt", tokens)
        wanted, pool = len(tokens) + beyond, self.pool
        if wanted > self.longest():
            raise ContextTooLong(
                f"[prompt] {len(tokens):,} tokens and {beyond} to come -> at most "
                f"{self.longest():,}: the model's context is {self.context_length:,}, the caches "
                f"hold {self.kv_capacity():,}; it needs {pool.blocks_for(wanted):,} blocks of "
                f"{pool.block_size} tokens, there are {pool.blocks:,}"
            )

    def release(self, seq: SequenceId) -> None:
        """Forget a sequence; its blocks are free again."""
        with ctrl_c_waits:
            self._known(seq).release()
            del self._sequences[seq]

    def reset(self) -> None:
        """Forget every sequence."""
        for seq in self.sequences:
            self.release(seq)

    def close(self) -> None:
        """Give back the memory of caches and weights, those of a GPU too; no step can follow."""
        self.reset()
        with self._graph.turn:
            self.caches = self._binding = Closed()
            self._graph.close()

    def _append(
        self, seq: SequenceId, tokens: Items[int], start: int | None, *, every: bool
    ) -> Generator[Logits, None, None]:
        """Run tokens of one sequence in steps of the usual size, after all has been checked."""
        new = seq not in self._sequences
        sequence = self._open(seq) if new else self._sequences[seq]
        before = sequence.length
        most = max(1, _MOST_LOGITS // self.vocabulary) if every else self.step_tokens
        try:
            if start is not None and start != before:
                raise StartMismatch(
                    f"[sequence {seq!r}] tokens for position {start}, but it ends at {before}"
                )
            self._check_tokens(f"sequence {seq!r}", tokens)
            self._check_fit([(seq, sequence, len(tokens))])
            done = 0
            for size in _chunks(len(tokens), min(most, self.step_tokens)):
                part = tokens[done : done + size]
                yield self.run([Part(sequence, part, every)], once=every).host()
                done += size
        except BaseException:
            with ctrl_c_waits:
                sequence.cut(before)
                if new:
                    self.release(seq)
            raise

    def _run(self, rows: list[Row], *, once: bool) -> StepLogits:
        arrays = self._batcher.arrays(rows, once=once)
        with self.clock.measure("graph"):
            logits = self._binding.run(arrays)
        if self._trace is not None:
            self._trace.add(arrays, self._binding.captured())
        return logits

    def _open(self, seq: SequenceId) -> Sequence:
        if len(self._sequences) >= self.max_sequences:
            raise TooManySequences(
                f"[sequence {seq!r}] {len(self._sequences)} are open -> release one, or a larger "
                f"max_sequences ({self.max_sequences})"
            )
        opened = self._sequences[seq] = self.sequence()
        return opened

    def _known(self, seq: SequenceId) -> Sequence:
        if seq not in self._sequences:
            raise UnknownSequence(f"[sequence {seq!r}] is not open -> prefill it first")
        return self._sequences[seq]

    def _check_tokens(self, whose: str, tokens: Items[int]) -> None:
        if len(tokens) == 0:
            raise NoTokens(f"[{whose}] no tokens -> at least one")
        for token in (min(tokens), max(tokens)):
            if not 0 <= token < self.vocabulary:
                raise BadToken(f"[{whose}] token id {token} -> 0 to {self.vocabulary - 1}")

    def _check_fit(self, wanted: Items[tuple[SequenceId, Sequence, int]]) -> None:
        needed = 0
        for seq, sequence, count in wanted:
            if sequence.length + count > self.context_length:
                raise ContextTooLong(
                    f"[sequence {seq!r}] {sequence.length:,} tokens and {count:,} more -> at most "
                    f"{self.context_length:,}, the model's context"
                )
            needed += sequence.blocks_needed(count)
            if needed > self.pool.free:
                raise CacheFull(
                    f"[sequence {seq!r}] {count:,} tokens more, for which the step needs "
                    f"{needed:,} blocks -> {self.pool.free:,} of {self.pool.blocks:,} are free; "
                    "release sequences, or a larger kv_capacity"
                )


def _row_of_each(part: Part) -> list[Row]:
    past, blocks = part.sequence.length, part.sequence.blocks
    return [Row([token], past + i, blocks) for i, token in enumerate(part.tokens)]


def _chunks(count: int, size: int) -> list[int]:
    """Sizes of the pieces that `count` tokens are cut into."""
    return [min(size, count - start) for start in range(0, count, size)]
