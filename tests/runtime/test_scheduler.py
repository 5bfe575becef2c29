"""Who runs next: decodes first, first come first served, and in the end everyone is done."""

from __future__ import annotations

from itertools import pairwise

import pytest
from block_world import Job, World
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.scheduler import Scheduler


def test_decodes_come_before_prompts_and_prompts_take_the_rest() -> None:
    world = World(blocks=20)
    first = world.add(3)
    assert world.step() == [(first, 3)]
    second = world.add(20)
    assert world.step() == [(first, 1), (second, 7)]


def test_prompts_are_served_in_order_of_arrival() -> None:
    world = World(blocks=20)
    first, second, third = world.add(5), world.add(6), world.add(3)
    assert world.step() == [(first, 5), (second, 3)]
    assert world.step() == [(first, 1), (second, 3), (third, 3)]


def test_a_short_prompt_does_not_wait_for_a_long_ones_last_piece_either() -> None:
    world = World(blocks=20)
    long = world.add(15)
    assert world.step() == [(long, 8)]
    short, as_long = world.add(2), world.add(7)
    assert world.step() == [(short, 2)]
    assert world.step() == [(short, 1), (long, 7)]
    assert world.step() == [(long, 1), (short, 1), (as_long, 6)]


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


def test_of_those_that_wait_the_more_urgent_is_served_first() -> None:
    world = World(blocks=20, most=1)
    first = world.add(3, wanted=2)
    world.step()
    later, urgent, as_urgent = world.add(1), world.add(1, priority=-1), world.add(1, priority=-1)
    assert world.scheduler.waiting == [urgent, as_urgent, later]
    world.step()
    assert first.done
    assert world.step() == [(urgent, 1)]


def test_an_urgent_newcomer_comes_before_prompts_half_way_through() -> None:
    world = World(blocks=40)
    world.add(40)
    world.step()
    urgent = world.add(30, priority=-1)
    assert world.step() == [(urgent, 8)]
    assert world.step() == [(urgent, 8)]


def test_blocks_are_taken_from_the_least_urgent() -> None:
    world = World(blocks=4, budget=16)
    background = world.add(7, wanted=9, priority=1)
    world.step()
    urgent = world.add(8, wanted=9)
    world.step()
    while world.pool.free:
        world.step()
    while background in world.scheduler.running:
        assert urgent in [job for job, _ in world.step()]
    assert background in world.scheduler.waiting


def test_a_short_prompt_comes_one_chunk_of_a_long_one_later_at_most() -> None:
    world = World(blocks=40)
    long = world.add(40)
    assert world.step() == [(long, 8)]
    short = world.add(5)
    assert world.step() == [(short, 5)]  # the long one sits out
    assert world.step() == [(short, 1), (long, 7)]


def test_a_long_prompt_has_every_other_step_whatever_comes() -> None:
    world = World(blocks=200, most=50, budget=50)
    long = world.add(400)
    steps = []
    while long.sequence.length < 400:
        for _ in range(3):
            world.add(8, wanted=1)
        steps.append(dict(world.step()).get(long, 0))
    assert not any(a == b == 0 for a, b in pairwise(steps))
    assert 0 in steps


def test_a_long_prompt_does_not_sit_out_for_one_before_it_or_for_a_less_urgent_one() -> None:
    world = World(blocks=60)
    before = world.add(10)
    long = world.add(40)
    assert world.step() == [(before, 8)]
    assert world.step() == [(before, 2), (long, 6)]
    world.add(3, priority=1)
    assert world.step() == [(before, 1), (long, 7)]


def test_long_newcomers_keep_their_place_while_a_short_one_overtakes() -> None:
    world = World(blocks=40, most=3)
    long = world.add(40)
    world.step()
    second, short, late = world.add(30), world.add(5, wanted=1), world.add(2, wanted=9)
    assert world.step() == [(short, 5)]
    assert world.scheduler.waiting == [second, late]
    world.step()
    # A sequence for each that is before it, though only one of them runs.
    assert world.step() == [(late, 2)]
    assert world.step() == [(late, 1), (long, 7)]
    even_later = world.add(1)
    for _ in range(3):
        assert even_later not in dict(world.step())


def test_what_is_there_of_a_prompt_is_not_run_again() -> None:
    world = World(blocks=20, budget=40, reuse=True)
    prompt = [i % 3 for i in range(21)]
    world.add(prompt, wanted=1)
    assert [count for _, count in world.step()] == [21]
    again = world.add([*prompt[:14], 2, 2])  # three blocks of the beginning
    assert world.step() == [(again, 4)]
    assert again.cached_tokens == 12
    assert (world.prefix.queries, world.prefix.hits) == (21 + 16, 12)


@pytest.mark.parametrize(("length", "cached"), [(3, 0), (4, 0), (5, 4), (8, 4), (9, 8)])
def test_the_last_token_runs_even_if_all_blocks_are_there(length: int, cached: int) -> None:
    world = World(blocks=20, budget=40, reuse=True)
    world.add([1] * 12, wanted=1)
    world.step()
    job = world.add([1] * length)
    assert world.step() == [(job, length - cached)]


def test_a_second_turn_finds_the_answer_too() -> None:
    world = World(blocks=20, budget=40, reuse=True)
    first = world.add([1, 2, 0, 1, 2], wanted=8)
    while not first.done:
        world.step()
    second = world.add([*first.tokens, 0, 0])
    assert world.step() == [(second, 15 - 12)]


def test_blocks_that_are_just_computed_are_waited_for_and_run_once() -> None:
    world = World(blocks=40, most=8, budget=16, reuse=True)
    jobs = [world.add([1] * 40 + [i] * 3, wanted=1) for i in range(8)]
    while not all(job.admitted for job in jobs):
        world.step()
    assert [job.ran for job in jobs] == [43] + [3] * 7
    assert [job.cached_tokens for job in jobs] == [0] + [40] * 7


def test_nobody_waits_for_one_that_was_cancelled() -> None:
    world = World(blocks=40, budget=8, reuse=True)
    first, second = world.add([1] * 30), world.add([1] * 30)
    assert world.step() == [(first, 8)]
    assert world.step() == [(first, 8)]
    world.scheduler.remove(first)
    assert world.step() == [(second, 8)]
    assert second.cached_tokens == 16


def test_an_urgent_one_does_not_wait_for_a_less_urgent_one_s_blocks() -> None:
    world = World(blocks=40, budget=8, reuse=True)
    world.add([1] * 30, priority=1)
    world.step()
    urgent = world.add([1] * 30)
    assert world.step() == [(urgent, 8)]


def test_a_preempted_one_finds_what_is_left_of_its_blocks() -> None:
    world = World(blocks=6, budget=32, reuse=True)
    old, young = world.add([1] * 8, wanted=12), world.add([2] * 8, wanted=12)
    while not world.scheduler.preemptions:
        world.step()
    assert young in world.scheduler.waiting
    ran = young.ran
    while not old.done:
        world.step()
    while not young.done:
        world.step()
    assert young.ran - ran < len(young.tokens) - 1  # not from the beginning
    assert young.cached_tokens == 0  # as its user sees it


def test_what_is_kept_for_later_makes_nobody_wait() -> None:
    world = World(blocks=4, budget=16, reuse=True)
    world.add([1] * 16, wanted=1)
    world.step()
    assert (world.pool.free, world.pool.cached) == (4, 4)
    other = world.add([2] * 12, wanted=4)
    assert world.step() == [(other, 12)]
    world.step()
    assert world.pool.cached == 0


def test_found_blocks_are_no_longer_free_for_others() -> None:
    """The pool has room for both prompts only as long as nobody counts a cached block twice."""
    world = World(blocks=6, budget=32, reuse=True)
    world.add([1] * 12, wanted=1)
    world.step()
    first = world.add([1] * 12 + [2] * 4, wanted=8)  # 3 cached ones and 1, then 2 more
    second = world.add([0] * 12, wanted=1)
    assert world.step() == [(first, 4)]
    assert second in world.scheduler.waiting


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
    """One step: within budget and blocks; the oldest moves at every other, lines are in order."""
    oldest = live[0]
    before = len(oldest.tokens), oldest.sequence.length
    sat_out = world.scheduler._held_back
    batch = world.step()
    assert sum(count for _, count in batch) <= world.scheduler._step_tokens
    assert len({id(job) for job, _ in batch}) == len(batch) <= world.scheduler._max_sequences
    assert (len(oldest.tokens), oldest.sequence.length) != before or not sat_out
    owned = [block for job in live for block in job.sequence.blocks.tolist()]
    assert len(set(owned)) == len(owned) == world.pool.blocks - world.pool.free
    live[:] = [job for job in live if not job.done]
    order = [job for job in live if job in world.scheduler.running]
    assert world.scheduler.running == order
