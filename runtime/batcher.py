"""A step's sequences and tokens to the graph's input arrays, in buffers that stay in place."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)
Int32 = npt.NDArray[np.int32]


class Row(NamedTuple):
    """Some tokens of one sequence, and what of it the caches hold: `past` tokens in `blocks`."""

    tokens: Items[int]
    past: int
    blocks: Int32  # [blocks], at least those that past and tokens fill


@dataclass(frozen=True)
class StepArrays:
    """The arrays of one step: views of the batcher's buffers, good until the next step.

    T tokens of B rows; C is the longest row's number of blocks.
    """

    input_ids: npt.NDArray[np.int64]  # [T]
    cumulative_sequence_lengths: Int32  # [B + 1]
    past_sequence_lengths: Int32  # [B]
    block_table: Int32  # [B, C], -1 beyond a row's own
    logits: npt.NDArray[np.float32]  # [B, vocabulary], for the graph to write or to be copied to
    rows: int  # how many of the B were asked for; others, made up, come after them
    padded: bool = False  # of a shape that comes again and again


class Buckets(Protocol):
    """What rounds decode steps up to few shapes."""

    def pad(self, rows: Items[Row], columns: int) -> tuple[list[Row], int]:
        """The rows and those to be computed beside them, and the block table's columns.

        `columns`: how many the rows themselves need.
        """


class Batcher:
    """Buffers for any step so far; a larger one grows them to the next power of two."""

    def __init__(self, vocabulary: int, buckets: Buckets | None = None) -> None:
        """`buckets`, where given, round up the steps that take one token for every row."""
        self.vocabulary, self._buckets = vocabulary, buckets
        self._ids: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._bounds: Int32 = np.empty(0, np.int32)
        self._past: Int32 = np.empty(0, np.int32)
        self._table: Int32 = np.empty(0, np.int32)
        self._logits: npt.NDArray[np.float32] = np.empty(0, np.float32)

    def grow(self, tokens: int, rows: int, columns: int) -> None:
        """Make room for a step of so many tokens and rows, and so many blocks in a row."""
        self._ids = _at_least(self._ids, tokens)
        self._bounds = _at_least(self._bounds, rows + 1)
        self._past = _at_least(self._past, rows)
        self._table = _at_least(self._table, rows * columns)
        self._logits = _at_least(self._logits, rows * self.vocabulary)

    def arrays(self, rows: Items[Row], *, once: bool = False) -> StepArrays:
        """The step of these rows, in this order; logits come in the same order.

        `once`: the step is not one of many alike, and is left as it is.
        """
        asked, columns = len(rows), max([len(row.blocks) for row in rows])
        lengths = [len(row.tokens) for row in rows]
        padded = not once and self._buckets is not None and max(lengths) == 1
        if padded:
            assert self._buckets is not None
            rows, columns = self._buckets.pad(rows, columns)
            lengths = [1] * len(rows)
        tokens, count = sum(lengths), len(rows)
        self.grow(tokens, count, columns)
        ids, past = self._ids[:tokens], self._past[:count]
        bounds = self._bounds[: count + 1]
        table = self._table[: count * columns].reshape(count, columns)
        bounds[0] = 0
        np.cumsum(lengths, out=bounds[1:])
        past[:] = [row.past for row in rows]
        if tokens == count:  # as of every decode step: what NumPy does once costs little
            ids[:] = [row.tokens[0] for row in rows]
        else:
            for row, end, length in zip(rows, bounds[1:].tolist(), lengths, strict=True):
                ids[end - length : end] = row.tokens
        table[:] = -1
        for i, row in enumerate(rows):
            table[i, : len(row.blocks)] = row.blocks
        logits = self._logits[: count * self.vocabulary].reshape(count, self.vocabulary)
        return StepArrays(ids, bounds, past, table, logits, asked, padded)


def _at_least(buffer: npt.NDArray[T], size: int) -> npt.NDArray[T]:
    """The buffer if it is large enough, else a new one of the next power of two."""
    if buffer.size >= size:
        return buffer
    return np.empty(1 << (size - 1).bit_length(), buffer.dtype)
