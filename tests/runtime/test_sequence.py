"""A sequence has the blocks its tokens fill, and gives back what a step did not use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.block_pool import BlockPool, OutOfBlocks
from ferrum.runtime.sequence import Sequence


def test_blocks_are_taken_on_demand_and_in_order() -> None:
    pool = BlockPool(8, 4)
    sequence = Sequence(pool, 32)
    assert pool.free == 8
    sequence.reserve(5)
    sequence.length = 5
    assert sequence.blocks.tolist() == [0, 1]
    sequence.reserve(3)
    assert sequence.blocks.tolist() == [0, 1]
    sequence.length = 8
    sequence.reserve(1)
    assert sequence.blocks.tolist() == [0, 1, 2]


def test_a_step_that_did_not_come_about_gives_its_blocks_back() -> None:
    pool = BlockPool(8, 4)
    sequence = Sequence(pool, 32)
    sequence.reserve(5)
    sequence.length = 5
    sequence.reserve(20)
    sequence.trim()
    assert sequence.blocks.tolist() == [0, 1]
    assert pool.free == 6


def test_a_reservation_that_does_not_fit_takes_nothing() -> None:
    pool = BlockPool(3, 4)
    sequence = Sequence(pool, 64)
    with pytest.raises(OutOfBlocks):
        sequence.reserve(13)
    assert pool.free == 3
    assert sequence.blocks.size == 0


def test_release_empties_it_and_it_can_begin_anew() -> None:
    pool = BlockPool(3, 4)
    sequence = Sequence(pool, 12)
    sequence.reserve(12)
    sequence.length = 12
    sequence.release()
    assert (sequence.length, pool.free) == (0, 3)
    sequence.reserve(12)


def test_it_can_begin_with_blocks_that_others_have_filled() -> None:
    pool = BlockPool(4, 4)
    first, second = Sequence(pool, 16), Sequence(pool, 16)
    first.reserve(9)
    first.length = 9
    for i, block in enumerate(first.blocks.tolist()[:2]):
        pool.publish(block, b"%d" % i)
    second.share(first.blocks.tolist()[:2])
    assert (second.length, second.published, second.room(pool.free)) == (8, 2, 4)
    second.reserve(1)
    assert second.blocks.tolist()[:2] == first.blocks.tolist()[:2]
    assert second.blocks.tolist()[2] != first.blocks.tolist()[2]
    first.release()
    assert (first.published, pool.free) == (0, 1)
    second.length = 8  # a step that did not come about
    second.trim()
    second.release()
    assert (pool.free, pool.cached) == (4, 2)


@given(st.integers(1, 9), st.integers(0, 60), st.integers(0, 20), st.integers(1, 60))
def test_room_is_exactly_what_can_be_reserved(
    block_size: int, length: int, free: int, limit: int
) -> None:
    length = min(length, limit)
    pool = BlockPool(-(-length // block_size) + free + 1, block_size)
    pool.take(1)
    sequence = Sequence(pool, limit)
    sequence.reserve(length)
    sequence.length = length
    room = sequence.room(pool.free)
    assert sequence.blocks_needed(room) <= pool.free
    assert length + room == limit or sequence.blocks_needed(room + 1) > pool.free
