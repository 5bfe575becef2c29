"""Which blocks of the KV caches are free: ids only, no memory and no model.

Blocks are handed out as they were left; nobody reads a slot that it has not written.
"""

from __future__ import annotations

from collections.abc import Iterable


class OutOfBlocks(ValueError):
    """More blocks were asked for than are free; none was taken."""

    def __init__(self, wanted: int, free: int) -> None:
        super().__init__(f"[block pool] {wanted} blocks wanted, {free} free")
        self.wanted, self.free = wanted, free


class BlockPool:
    """Blocks 0 .. blocks - 1 of `block_size` tokens each.

    The block given back last is handed out first: its memory is touched already, and warm.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        if blocks < 1 or block_size < 1:
            raise ValueError(f"[block pool] got {blocks} blocks of {block_size} -> at least 1 of 1")
        self.blocks, self.block_size = blocks, block_size
        self._free = list(range(blocks - 1, -1, -1))
        self._taken = bytearray(blocks)

    @property
    def free(self) -> int:
        """How many blocks are free."""
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks that many tokens of one sequence fill."""
        return -(-tokens // self.block_size)

    def take(self, count: int) -> list[int]:
        """`count` free blocks, or `OutOfBlocks` and none."""
        if count < 0:
            raise ValueError(f"[block pool] {count} blocks wanted -> 0 or more")
        if count > len(self._free):
            raise OutOfBlocks(count, len(self._free))
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._taken[block] = 1
        return taken

    def give(self, blocks: Iterable[int]) -> None:
        """Take blocks back; ValueError, and none is taken, where one of them is free already."""
        returned = list(blocks)
        for block in returned:
            if not 0 <= block < self.blocks or not self._taken[block]:
                raise ValueError(f"[block pool] block {block} given back, but nobody has it")
        if len(set(returned)) != len(returned):
            raise ValueError("[block pool] a block is given back twice in one call")
        for block in returned:
            self._taken[block] = 0
        self._free.extend(reversed(returned))
