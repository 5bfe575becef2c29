"""Whether the pool's books agree with what the sequences have: for tests and a debug mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ferrum.runtime.block_pool import BlockPool, BlocksDisagree
from ferrum.runtime.prefix_cache import Cacheable
from ferrum.runtime.sequence import Sequence


def check_blocks(
    pool: BlockPool, running: Iterable[Cacheable], others: Iterable[Sequence] = ()
) -> None:
    """Raise BlocksDisagree where a block is not exactly one of unused, cached and used.

    `running` are the requests that have blocks and `others` all other sequences that do. Used
    blocks have as many owners as sequences have them; several only where they are published and
    full in each.
    """
    owners: Counter[int] = Counter()
    for request in running:
        owners.update(_checked(pool, request.sequence))
        for i in range(request.sequence.published):
            key = pool.key(int(request.sequence.blocks[i]))
            _demand(key in (None, request.chain[i]), f"block {i} of a request has another's key")
    for sequence in others:
        owners.update(_checked(pool, sequence))
        _demand(not sequence.published, "a sequence that the session knows by id is published")
    pool.check(owners)


def _checked(pool: BlockPool, sequence: Sequence) -> list[int]:
    """A sequence's blocks, which are those that its tokens fill."""
    blocks: list[int] = sequence.blocks.tolist()
    _demand(len(blocks) == pool.blocks_for(sequence.length),
            f"{len(blocks)} blocks for {sequence.length} tokens")  # fmt: skip
    full = sequence.length // pool.block_size
    _demand(sequence.published <= full, f"{sequence.published} of {full} full blocks published")
    for i, block in enumerate(blocks):
        alone = pool.owners(block) == 1
        _demand(alone or i < full, f"block {block} is shared, but not full")
        _demand(alone or pool.key(block) is not None, f"block {block} is shared unpublished")
    return blocks


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BlocksDisagree(f"[blocks] {otherwise}")
