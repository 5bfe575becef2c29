"""Decode steps rounded up to few shapes, so that each can be captured as a CUDA graph and kept."""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np

from ferrum.runtime.batcher import Row

_LEAST_COLUMNS = 4


class DecodeBuckets:
    """Shapes whose rows and block-table columns are powers of two.

    Rows that are made up attend to a block of their own, which no sequence has: they write there,
    all of them the same, and their logits are left alone.
    """

    def __init__(self, spare_block: int, most_columns: int) -> None:
        """`most_columns`: blocks of the longest sequence that can be; no table is wider."""
        self._most_columns = most_columns
        self._made_up = Row([0], 0, np.array([spare_block], np.int32))

    def pad(self, rows: Items[Row], columns: int) -> tuple[list[Row], int]:
        """The rows of one token each, with made-up ones after them, and how many columns.

        `columns`: blocks of the row that has most.
        """
        more = _power_of_two(len(rows)) - len(rows)
        columns = max(_LEAST_COLUMNS, _power_of_two(columns))
        return [*rows, *[self._made_up] * more], max(1, min(columns, self._most_columns))


def _power_of_two(count: int) -> int:
    """The least power of two that is not less."""
    return 1 << (count - 1).bit_length()
