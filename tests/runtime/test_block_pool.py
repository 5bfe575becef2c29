"""Every block has one owner or is free; nothing is taken or given halfway."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.block_pool import BlockPool, OutOfBlocks


def test_all_blocks_can_be_taken_to_the_last() -> None:
    pool = BlockPool(5, 16)
    assert sorted(pool.take(5)) == [0, 1, 2, 3, 4]
    assert pool.free == 0


def test_more_than_there_are_takes_none() -> None:
    pool = BlockPool(5, 16)
    pool.take(3)
    with pytest.raises(OutOfBlocks, match="3 blocks wanted, 2 free"):
        pool.take(3)
    assert pool.free == 2


def test_the_block_given_back_last_is_handed_out_first() -> None:
    pool = BlockPool(5, 16)
    first, second = pool.take(2)
    pool.give([first, second])
    assert pool.take(2) == [first, second]


@pytest.mark.parametrize("blocks", [[4], [0, 0], [7], [-1], [0, 4]])
def test_a_block_that_nobody_has_is_not_taken_back(blocks: list[int]) -> None:
    pool = BlockPool(5, 16)
    assert pool.take(2) == [0, 1]
    with pytest.raises(ValueError, match="block pool"):
        pool.give(blocks)
    assert pool.free == 3
    pool.give([0, 1])


def test_a_second_give_is_an_error() -> None:
    pool = BlockPool(2, 16)
    taken = pool.take(1)
    pool.give(taken)
    with pytest.raises(ValueError, match="nobody has it"):
        pool.give(taken)


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_tokens_fill_whole_blocks(tokens: int, blocks: int) -> None:
    assert BlockPool(5, 16).blocks_for(tokens) == blocks


@pytest.mark.parametrize(("blocks", "size"), [(0, 16), (4, 0)])
def test_a_pool_has_blocks_and_blocks_have_slots(blocks: int, size: int) -> None:
    with pytest.raises(ValueError, match="block pool"):
        BlockPool(blocks, size)
    with pytest.raises(ValueError, match="0 or more"):
        BlockPool(1, 1).take(-1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_no_block_is_lost_or_owned_twice(moves: list[tuple[bool, int]]) -> None:
    pool, held = BlockPool(12, 4), []
    for take, count in moves:
        if take:
            try:
                taken = pool.take(count)
            except OutOfBlocks:
                assert count > pool.free
                continue
            assert len(taken) == count
            assert not set(taken) & set(held)
            held += taken
        else:
            pool.give(held[:count])
            held = held[count:]
        assert len(set(held)) == len(held) == 12 - pool.free
