"""A scheduler over caches of plain Python, and steps that write and read them as a graph would.

A slot holds a digest of its token and of what the slot before it, found through the block table,
holds: so a block that was lost, overwritten or shared wrongly changes all that comes after it. The
next token follows from the last slot alone, and `expected_tokens` says what it has to be.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from ferrum.runtime.block_check import check_blocks
from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.prefix_cache import Chain, PrefixCache
from ferrum.runtime.scheduler import Piece, Scheduler
from ferrum.runtime.sequence import Sequence

ALPHABET = 3


def written(before: int, token: int) -> int:
    """What a slot holds: 0 stands for nothing before the first."""
    return zlib.crc32(b"%d" % token, before) or 1


def expected_tokens(prompt: Items[int], count: int) -> list[int]:
    """The `count` tokens that follow a prompt."""
    tokens = list(prompt)
    for _ in range(count):
        slot = 0
        for token in tokens:
            slot = written(slot, token)
        tokens.append(slot % ALPHABET)
    return tokens[len(prompt) :]


@dataclass(eq=False)
class Job:
    """A prompt that wants some more tokens."""

    sequence: Sequence
    prompt: list[int]
    wanted: int
    priority: int = 0
    arrival: int = 0
    admitted: bool = False
    cached_tokens: int = 0
    ran: int = 0  # tokens, those that were computed anew included
    tokens: list[int] = field(init=False)
    chain: Chain = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)
        self.chain = Chain(self.tokens, self.sequence.pool.block_size)

    @property
    def generated(self) -> list[int]:
        return self.tokens[len(self.prompt) :]

    @property
    def done(self) -> bool:
        return len(self.generated) == self.wanted


class World:
    """A scheduler, and steps that really take the blocks."""

    def __init__(self, blocks: int = 8, block_size: int = 4, most: int = 4, budget: int = 8,
                 *, reuse: bool = False):  # fmt: skip
        self.pool = BlockPool(blocks, block_size)
        self.prefix: PrefixCache[Job] = PrefixCache(self.pool, reuse=reuse)
        self.scheduler: Scheduler[Job] = Scheduler(self.pool, most, budget, self.prefix)
        self.slots = [[0] * block_size for _ in range(blocks)]

    def add(self, prompt: int | Items[int], wanted: int = 3, priority: int = 0) -> Job:
        """A new job; a prompt may be given by its length alone."""
        tokens = [0] * prompt if isinstance(prompt, int) else list(prompt)
        job = Job(Sequence(self.pool, 1000), tokens, wanted, priority)
        self.scheduler.add(job)
        return job

    def step(self) -> list[tuple[Job, int]]:
        """One step; whom it has advanced, and by how much."""
        batch = self.plan()
        self.write(batch)
        self.commit(batch)
        return [(piece.request, piece.count) for piece in batch]

    def plan(self) -> list[Piece[Job]]:
        batch = self.scheduler.next_batch()
        assert {id(piece.request) for piece in batch} <= set(map(id, self.scheduler.running))
        for piece in batch:
            assert piece.count > 0
            piece.request.sequence.reserve(piece.count)
        return batch

    def write(self, batch: list[Piece[Job]]) -> None:
        """What the graph does: fill the slots of the step's tokens."""
        for piece in batch:
            job, size = piece.request, self.pool.block_size
            blocks = job.sequence.blocks.tolist()
            for at in range(job.sequence.length, job.sequence.length + piece.count):
                before = self.slots[blocks[(at - 1) // size]][(at - 1) % size] if at else 0
                self.slots[blocks[at // size]][at % size] = written(before, job.tokens[at])

    def commit(self, batch: list[Piece[Job]]) -> None:
        for piece in batch:
            job = piece.request
            job.sequence.length += piece.count
            job.ran += piece.count
            assert job.sequence.length <= len(job.tokens)
            if job.sequence.length == len(job.tokens):
                job.tokens.append(self.last_slot(job) % ALPHABET)
            self.prefix.publish(job)
            if job.done:
                self.scheduler.remove(job)

    def undo(self, batch: list[Piece[Job]]) -> None:
        """As after a run that failed."""
        for piece in batch:
            piece.request.sequence.trim()

    def last_slot(self, job: Job) -> int:
        at, size = job.sequence.length - 1, self.pool.block_size
        return self.slots[int(job.sequence.blocks[at // size])][at % size]

    def check(self, others: Items[Sequence] = ()) -> None:
        """The books agree, and every slot that a running job has holds its own tokens."""
        check_blocks(self.pool, self.scheduler.running, others)
        for job in self.scheduler.waiting:
            assert job.sequence.length == job.sequence.blocks.size == 0
        for job in self.scheduler.running:
            blocks, slot = job.sequence.blocks.tolist(), 0
            for at in range(job.sequence.length):
                slot = written(slot, job.tokens[at])
                size = self.pool.block_size
                assert self.slots[blocks[at // size]][at % size] == slot
