"""Whatever happens in whatever order: blocks have their owners, tokens their values, all an end."""

from __future__ import annotations

from typing import Any

import pytest
from block_world import ALPHABET, Job, World, expected_tokens
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ferrum.runtime.prefix_cache import Chain, Found, PrefixCache
from ferrum.runtime.sequence import Sequence

PROMPT = st.lists(st.integers(0, ALPHABET - 1), min_size=1, max_size=24)


class Requests(RuleBasedStateMachine):
    """Jobs come, run, are cancelled and preempted; steps fail; others take blocks; all is reset."""

    def __init__(self) -> None:
        super().__init__()
        self.live: list[Job] = []
        self.hogs: list[Sequence] = []

    @initialize(
        blocks=st.integers(6, 14), size=st.integers(1, 5), most=st.integers(1, 5),
        more=st.integers(0, 9), reuse=st.sampled_from([True, True, False]),
    )  # fmt: skip
    def start(self, blocks: int, size: int, most: int, more: int, reuse: bool) -> None:
        self.world = World(blocks, size, most, most + more, reuse=reuse)
        self.capacity = blocks * size

    @rule(prompt=PROMPT, wanted=st.integers(1, 12), priority=st.integers(-1, 1))
    def add(self, prompt: list[int], wanted: int, priority: int) -> None:
        prompt = prompt[: self.capacity - 1]
        wanted = min(wanted, self.capacity - len(prompt))
        self.live.append(self.world.add(prompt, wanted, priority))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), more=PROMPT, wanted=st.integers(1, 8))
    def add_one_that_begins_alike(self, data: st.DataObject, more: list[int], wanted: int) -> None:
        other = data.draw(st.sampled_from(self.live))
        begin = other.tokens[: data.draw(st.integers(1, len(other.tokens)))]
        self.add([*begin, *more], wanted, 0)

    @rule(count=st.integers(1, 6))
    def step(self, count: int) -> None:
        for _ in range(count):
            self._step()

    def _step(self) -> None:
        world = self.world
        batch = world.step()
        assert batch or not self.live or self.hogs
        assert sum(count for _, count in batch) <= world.scheduler._step_tokens
        assert len(world.scheduler.running) <= world.scheduler._max_sequences
        for job in [job for job in self.live if job.done]:
            assert job.generated == expected_tokens(job.prompt, job.wanted)
            self.live.remove(job)

    @rule(written=st.booleans())
    def a_step_fails(self, written: bool) -> None:
        batch = self.world.plan()
        if written:
            self.world.write(batch)
        self.world.undo(batch)

    @rule()
    def a_step_is_interrupted_before_its_tokens_are_chosen(self) -> None:
        batch = self.world.plan()
        self.world.write(batch)
        for piece in batch:
            sequence = piece.request.sequence
            sequence.length += piece.count
            if sequence.length == len(piece.request.tokens):
                sequence.length -= 1
        self.world.undo(batch)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.live))
        self.live.remove(job)
        self.world.scheduler.remove(job)

    @rule(share=st.floats(0, 1))
    def others_take_blocks(self, share: float) -> None:
        sequence = Sequence(self.world.pool, self.capacity)
        sequence.reserve(int(share * self.world.pool.free) * self.world.pool.block_size)
        sequence.length = len(sequence.blocks) * self.world.pool.block_size
        for block in sequence.blocks.tolist():
            self.world.slots[block] = [0] * self.world.pool.block_size
        self.hogs.append(sequence)

    @precondition(lambda self: self.hogs)
    @rule()
    def others_give_them_back(self) -> None:
        self.hogs.pop().release()

    @rule()
    def reset(self) -> None:
        for job in self.live:
            self.world.scheduler.remove(job)
        self.live.clear()
        self.world.prefix.clear()
        assert self.world.pool.cached == 0

    @invariant()
    def the_books_agree(self) -> None:
        world, scheduler = self.world, self.world.scheduler
        world.check(self.hogs)
        for line in (scheduler.running, scheduler.waiting):
            assert line == sorted(line, key=lambda job: (job.priority, job.arrival))
        assert sorted(map(id, self.live)) == sorted(
            map(id, [*scheduler.running, *scheduler.waiting])
        )
        # Nobody is waited for who does not run.
        assert {id(job) for job in world.prefix._computing.values()} <= set(
            map(id, scheduler.running)
        )

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for hog in self.hogs:
            hog.release()
        self.hogs.clear()
        for _ in range(3000):
            if not self.live:
                break
            self._step()
            self.the_books_agree()
        assert not self.live
        assert self.world.pool.free == self.world.pool.blocks
        assert not self.world.prefix._computing


def test_whatever_happens_blocks_and_tokens_are_right() -> None:
    _run(max_examples=300)


def _run(**options: Any) -> None:
    chosen = settings(stateful_step_count=30, deadline=None, **options)
    run_state_machine_as_test(Requests, settings=chosen)


def _releases_without_its_last_block(sequence: Sequence) -> None:
    sequence.length = sequence.published = 0
    sequence.pool.give(sequence.blocks[:-1].tolist())
    sequence._count = 0


def _shares_without_owning(sequence: Sequence, blocks: list[int]) -> None:
    sequence._table[: len(blocks)] = blocks
    sequence._count = sequence.published = len(blocks)
    sequence.length = len(blocks) * sequence.pool.block_size


def _digest_without_what_is_before(chain: Chain, block: int) -> bytes:
    size = chain._block_size
    return bytes(chain._tokens[block * size : (block + 1) * size])


def _finds_one_block_too_many(prefix: PrefixCache[Job], request: Job) -> Found[Job]:
    blocks: list[int] = []
    for i in range(len(request.tokens) // prefix._pool.block_size):
        block = prefix._pool.find(request.chain[i])
        if block is None:
            break
        blocks.append(block)
    return Found(blocks, None)


def _has_others_wait_for_ever(prefix: PrefixCache[Job], request: Job) -> None:
    pass


@pytest.mark.parametrize(
    "bug",
    [
        (Sequence, "release", _releases_without_its_last_block),
        (Sequence, "share", _shares_without_owning),
        (Chain, "__getitem__", _digest_without_what_is_before),
        (PrefixCache, "find", _finds_one_block_too_many),
        (PrefixCache, "end", _has_others_wait_for_ever),
    ],
    ids=lambda bug: bug[2].__name__.strip("_"),
)
def test_a_bug_would_be_found(bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*bug)
    with pytest.raises((AssertionError, ValueError)):
        _run(
            max_examples=3000, phases=[Phase.generate], derandomize=True, report_multiple_bugs=False
        )
