"""Who runs next: decodes first, first come first served, and in the end everyone is done."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.scheduler import Scheduler
from ferrum.runtime.sequence import Sequence


@dataclass(eq=False)
class Job:
    """A prompt of some tokens that wants some more."""

    sequence: Sequence
    prompt: int
    wanted: int
    tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = [0] * self.prompt


class World:
    """A scheduler, and steps that really take the blocks."""

    def __init__(self, blocks: int = 8, block_size: int = 4, most: int = 4, budget: int = 8):
        self.pool = BlockPool(blocks, block_size)
        self.scheduler: Scheduler[Job] = Scheduler(self.pool, most, budget)

    def add(self, prompt: int, wanted: int = 3) -> Job:
        job = Job(Sequence(self.pool, 1000), prompt, wanted)
        self.scheduler.add(job)
        return job

    def step(self) -> list[tuple[Job, int]]:
        batch = self.scheduler.next_batch()
        assert {id(p.request) for p in batch} <= {id(job) for job in self.scheduler.running}
        for piece in batch:
            piece.request.sequence.reserve(piece.count)
        for piece in batch:
            job = piece.request
            job.sequence.length += piece.count
            assert job.sequence.length <= len(job.tokens)
            if job.sequence.length == len(job.tokens):
                job.tokens.append(0)
                if len(job.tokens) == job.prompt + job.wanted:
                    self.scheduler.remove(job)
        return [(piece.request, piece.count) for piece in batch]


def test_decodes_come_before_prompts_and_prompts_take_the_rest() -> None:
    world = World(blocks=20)
    first = world.add(3)
    assert world.step() == [(first, 3)]
    second = world.add(20)
    assert world.step() == [(first, 1), (second, 7)]


def test_prompts_are_served_in_order_of_arrival() -> None:
    world = World(blocks=20)
    first, second, third = world.add(5), world.add(6), world.add(1)
    assert world.step() == [(first, 5), (second, 3)]
    assert world.step() == [(first, 1), (second, 3), (third, 1)]


def test_no_more_sequences_run_than_allowed() -> None:
    world = World(blocks=20, most=2)
    jobs = [world.add(1) for _ in range(3)]
    assert [job for job, _ in world.step()] == jobs[:2]


def test_a_newcomer_waits_until_its_whole_prompt_fits() -> None:
    world = World(blocks=4, budget=16)
    first = world.add(12, wanted=4)
    second = world.add(5)
    assert world.step() == [(first, 12)]
    assert world.step() == [(first, 1)]  # the fourth block
    while len(first.tokens) < 16:
        assert second not in [job for job, _ in world.step()]
    assert world.step() == [(second, 5)]


def test_newcomers_do_not_overtake_one_that_waits() -> None:
    world = World(blocks=4, budget=16)
    world.add(8, wanted=9)
    world.step()
    world.add(12)
    small = world.add(1)
    assert small not in [job for job, _ in world.step()]


def test_the_youngest_gives_its_blocks_to_the_oldest_and_is_computed_anew() -> None:
    world = World(blocks=4, budget=16)
    old, young = world.add(8, wanted=9), world.add(7, wanted=9)
    assert world.step() == [(old, 8), (young, 7)]
    world.step()  # the old one's third block; the young one's two are full
    while world.pool.free or young.sequence.length % 4:
        world.step()
    tokens = len(young.tokens)
    assert world.step() == [(old, 1)]  # the young one wants a block and is the youngest
    assert young.sequence.length == 0
    assert world.scheduler.preemptions == 1
    while old.sequence.length:
        world.step()
    assert world.step() == [(young, tokens)]


def test_one_that_was_planned_and_then_preempted_does_not_run() -> None:
    world = World(blocks=3, budget=16)
    old, young = world.add(3, wanted=30), world.add(3, wanted=30)
    world.step()
    assert world.step() == [(old, 1), (young, 1)]  # a full block each, one free
    old.tokens += [0] * 6  # its owner gives it several tokens at a time
    # The young one's decode comes first and takes the block that the old one turns out to want.
    assert world.step() == [(old, 7)]
    assert young in world.scheduler.waiting


def test_a_cancelled_one_frees_its_blocks_at_once() -> None:
    world = World(blocks=4, budget=16)
    first, second = world.add(12), world.add(12)
    world.step()
    world.scheduler.remove(first)
    assert world.pool.free == 4
    assert world.step() == [(second, 12)]


def test_a_waiting_one_can_be_cancelled() -> None:
    world = World(blocks=4, budget=16)
    first, second = world.add(12), world.add(12)
    world.step()
    world.scheduler.remove(second)
    assert world.step() == [(first, 1)]
    assert not world.scheduler.waiting


def test_an_idle_scheduler_plans_nothing() -> None:
    assert World().step() == []


def test_a_budget_below_the_number_of_sequences_is_refused() -> None:
    with pytest.raises(ValueError, match="step_tokens"):
        Scheduler(BlockPool(1, 1), 4, 3)


@given(data=st.data())
def test_everyone_finishes_whatever_comes(data: st.DataObject) -> None:
    blocks, size = data.draw(st.integers(2, 10)), data.draw(st.integers(1, 5))
    most = data.draw(st.integers(1, 5))
    world = World(blocks, size, most, data.draw(st.integers(most, 12)))
    live: list[Job] = []
    for _ in range(data.draw(st.integers(1, 8))):
        whole = data.draw(st.integers(2, blocks * size))
        prompt = data.draw(st.integers(1, whole - 1))
        live.append(world.add(prompt, whole - prompt))
        for _ in range(data.draw(st.integers(0, 4))):
            if world.scheduler.running or world.scheduler.waiting:
                _checked_step(world, live)
    if data.draw(st.booleans()):
        world.scheduler.remove(live.pop(data.draw(st.integers(0, len(live) - 1)))) if live else None
    steps = 0
    while live:
        _checked_step(world, live)
        steps += 1
        assert steps < 5000
    assert world.pool.free == blocks
    assert not world.scheduler.running
    assert not world.scheduler.waiting


def _checked_step(world: World, live: list[Job]) -> None:
    """One step: within budget and blocks, the oldest always moves, the order of lines is kept."""
    oldest = live[0]
    before = len(oldest.tokens), oldest.sequence.length
    batch = world.step()
    assert sum(count for _, count in batch) <= world.scheduler._step_tokens
    assert len({id(job) for job, _ in batch}) == len(batch) <= world.scheduler._max_sequences
    assert (len(oldest.tokens), oldest.sequence.length) != before
    owned = [block for job in live for block in job.sequence.blocks.tolist()]
    assert len(set(owned)) == len(owned) == world.pool.blocks - world.pool.free
    live[:] = [job for job in live if len(job.tokens) < job.prompt + job.wanted]
    order = [job for job in live if job in world.scheduler.running]
    assert world.scheduler.running == order
