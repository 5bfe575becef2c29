"""Every block has one owner or is free; nothing is taken or given halfway."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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


def test_a_published_block_is_kept_until_its_place_is_needed() -> None:
    pool = BlockPool(4, 16)
    first, second = pool.take(2)
    pool.publish(first, b"a")
    pool.give([first, second])
    assert (pool.free, pool.cached, pool.unused, pool.used) == (4, 1, 3, 0)
    assert first not in pool.take(3)
    assert pool.find(b"a") == first
    assert pool.take(1) == [first]
    assert pool.find(b"a") is None


def test_of_kept_blocks_the_one_longest_out_of_use_goes_first_and_of_a_sequence_its_last() -> None:
    pool = BlockPool(4, 16)
    old, young = pool.take(2), pool.take(2)
    for name, block in zip("abcd", [*old, *young], strict=True):
        pool.publish(block, name.encode())
    pool.give(old)
    pool.give(young)
    pool.share(old[0])
    pool.give([old[0]])  # used again, and so the youngest
    assert [key for _, key in pool.published()] == [b"b", b"d", b"c", b"a"]
    assert [pool.take(1)[0] for _ in range(4)] == [old[1], young[1], young[0], old[0]]


def test_a_shared_block_is_free_when_its_last_owner_has_given_it_back() -> None:
    pool = BlockPool(2, 16)
    (block,) = pool.take(1)
    pool.publish(block, b"a")
    pool.share(block)
    assert (pool.owners(block), pool.idle([block])) == (2, 0)
    pool.give([block])
    assert pool.free == 1
    pool.give([block])
    assert (pool.free, pool.idle([block])) == (2, 1)
    with pytest.raises(ValueError, match="nobody has it"):
        pool.give([block])


def test_a_second_block_of_the_same_content_stays_unknown() -> None:
    pool = BlockPool(3, 16)
    first, second = pool.take(2)
    for block in (first, second, first):
        pool.publish(block, b"a")
    assert pool.find(b"a") == first
    assert (pool.key(first), pool.key(second)) == (b"a", None)
    pool.give([second])
    assert pool.cached == 0


def test_only_blocks_in_use_are_published_and_only_published_ones_shared() -> None:
    pool = BlockPool(3, 16)
    with pytest.raises(ValueError, match="block 0 published -> one in use"):
        pool.publish(0, b"a")
    (block,) = pool.take(1)
    with pytest.raises(ValueError, match=f"block {block} shared -> one that is published"):
        pool.share(block)
    pool.publish(block, b"a")
    with pytest.raises(ValueError, match="under one key"):
        pool.publish(block, b"b")


def test_what_nobody_has_can_be_forgotten() -> None:
    pool = BlockPool(3, 16)
    kept, used = pool.take(2)
    pool.publish(kept, b"a")
    pool.publish(used, b"b")
    pool.give([kept])
    pool.forget()
    assert (pool.cached, pool.unused, pool.find(b"a")) == (0, 2, None)
    assert pool.find(b"b") == used


class Blocks(RuleBasedStateMachine):
    """Owners take, share, publish and give; the pool is what a list of their blocks says."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(8, 4)
        self.owners: list[list[int]] = []
        self.kept: list[tuple[int, bytes]] = []  # nobody's, the first to go first
        self.keys = (b"%d" % i for i in itertools.count())

    @rule(count=st.integers(0, 9))
    def take(self, count: int) -> None:
        if count > self.pool.free:
            with pytest.raises(OutOfBlocks):
                self.pool.take(count)
            return
        evicted = max(0, count - self.pool.unused)
        taken = self.pool.take(count)
        assert taken[count - evicted :] == [block for block, _ in self.kept[:evicted]]
        del self.kept[:evicted]
        self.owners.append(taken)

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        blocks = self.owners.pop(data.draw(st.integers(0, len(self.owners) - 1)))
        keys = {block: self.pool.key(block) for block in blocks}
        self.pool.give(blocks)
        for block in reversed(blocks):
            key = keys[block]
            if key is not None and not any(block in held for held in self.owners):
                self.kept.append((block, key))

    @precondition(lambda self: any(self.owners))
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted({b for held in self.owners for b in held})))
        if self.pool.key(block) is None:
            self.pool.publish(block, next(self.keys))

    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        published = list(self.pool.published())
        if published:
            block, key = data.draw(st.sampled_from(published))
            assert self.pool.find(key) == block
            self.pool.share(block)
            self.kept = [pair for pair in self.kept if pair[0] != block]
            self.owners.append([block])

    @rule()
    def forget(self) -> None:
        self.pool.forget()
        self.kept.clear()

    @invariant()
    def the_books_agree(self) -> None:
        self.pool.check(Counter(block for held in self.owners for block in held))
        assert list(self.pool.published())[: self.pool.cached] == self.kept


TestBlocks = Blocks.TestCase


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
