"""One sequence's place in the KV caches: how many tokens are there, and in which blocks.

Its length is the only count there is: positions, the past that the graph is told and the slots
written all follow from it, so they cannot disagree. Slots are written from its length on, and only
full blocks before it are shared with others, so nothing is ever written that another reads.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
import numpy.typing as npt

from ferrum.runtime.block_pool import BlockPool


class Sequence:
    """Blocks of `pool` for up to `max_tokens` tokens, taken on demand."""

    def __init__(self, pool: BlockPool, max_tokens: int) -> None:
        self.pool, self.max_tokens = pool, max_tokens
        self.length = 0  # tokens in the cache
        self.published = 0  # of its blocks, the first so many can be found by what they hold
        self._table = np.empty(pool.blocks_for(max_tokens), np.int32)
        self._hold(0)

    def _hold(self, count: int) -> None:
        """Have the first `count` blocks of the table."""
        self._count = count
        self._slots = count * self.pool.block_size
        # int32[blocks]: the blocks it has, in the order of its tokens.
        self.blocks: npt.NDArray[np.int32] = self._table[:count]

    def blocks_needed(self, tokens: int) -> int:
        """How many more blocks it must take to hold `tokens` more tokens."""
        return max(0, self.pool.blocks_for(self.length + tokens) - self._count)

    def room(self, free: int) -> int:
        """How many more tokens fit into its last block and `free` others."""
        slots = (self._count + free) * self.pool.block_size
        return min(slots, self.max_tokens) - self.length

    def share(self, blocks: Items[int]) -> None:
        """Begin with published blocks that hold its first tokens; it must be empty."""
        assert not self._count
        for block in blocks:
            self.pool.share(block)
            self._table[self._count] = block
            self._hold(self._count + 1)
        self.length = self._count * self.pool.block_size
        self.published = self._count

    def reserve(self, tokens: int) -> None:
        """Take the blocks for `tokens` more tokens, or `OutOfBlocks` and none."""
        if self.length + tokens <= self._slots:  # as of most decode steps
            return
        needed = self.blocks_needed(tokens)
        self._table[self._count : self._count + needed] = self.pool.take(needed)
        self._hold(self._count + needed)

    def trim(self) -> None:
        """Give back the blocks beyond its length, after a step that did not come about."""
        needed = self.pool.blocks_for(self.length)
        self.pool.give(self._table[needed : self._count].tolist())
        self._hold(needed)

    def cut(self, length: int) -> None:
        """Forget the tokens from `length` on."""
        self.length = length
        self.trim()

    def release(self) -> None:
        """Give back every block; the sequence is empty again."""
        self.published = 0
        self.cut(0)
