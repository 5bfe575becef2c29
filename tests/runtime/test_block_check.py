"""Books that do not agree are noticed, whichever way they were spoilt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from block_world import World

from ferrum.runtime.block_pool import BlocksDisagree
from ferrum.runtime.sequence import Sequence


def busy() -> World:
    """Two running jobs that share two blocks, one that waits, and blocks that are kept."""
    world = World(blocks=12, block_size=2, most=2, budget=20, reuse=True)
    world.add([2] * 4, wanted=1)
    world.step()
    world.add([1] * 5, wanted=9)
    world.step()
    world.add([1] * 6, wanted=9)
    world.step()
    world.add([0])
    world.check()
    assert world.pool.cached == 2
    assert world.pool.owners(int(world.scheduler.running[1].sequence.blocks[0])) == 2
    return world


def leak(world: World) -> None:
    world.pool.take(1)


def double_free(world: World) -> None:
    sequence = world.scheduler.running[0].sequence
    world.pool.give(sequence.blocks.tolist()[-1:])


def forgotten(world: World) -> None:
    sequence = world.scheduler.running[0].sequence
    sequence.length = sequence.published = sequence._count = 0


def one_too_many(world: World) -> None:
    world.scheduler.running[0].sequence.reserve(8)


def one_too_few(world: World) -> None:
    world.scheduler.running[0].sequence.length += 8


def unpublished(world: World) -> None:
    block = int(world.scheduler.running[0].sequence.blocks[0])
    del world.pool._published[world.pool._keys.pop(block)]


def another_s_key(world: World) -> None:
    first, second = (int(world.scheduler.running[0].sequence.blocks[i]) for i in (0, 1))
    keys = world.pool._keys
    keys[first], keys[second] = keys[second], keys[first]
    world.pool._published = {key: block for block, key in keys.items()}


def shared_but_not_full(world: World) -> None:
    first, second = (job.sequence for job in world.scheduler.running)
    assert (first.length, second.length) == (6, 6)
    block, other = int(first.blocks[2]), int(second.blocks[2])
    world.pool.give([other])
    world.pool.share(block)
    second._table[2] = block
    first.length, first.published = 5, 2


def unused_but_found(world: World) -> None:
    world.pool._keys[world.pool._unused[0]] = b"x"
    world.pool._published[b"x"] = world.pool._unused[0]


def kept_but_not_found(world: World) -> None:
    block = next(iter(world.pool._cached))
    del world.pool._published[world.pool._keys.pop(block)]


def twice_unused(world: World) -> None:
    world.pool._unused.append(world.pool._unused[0])


def key_of_another(world: World) -> None:
    world.pool._published[b"x"] = 0


@pytest.mark.parametrize(
    "spoil",
    [leak, double_free, forgotten, one_too_many, one_too_few, unpublished, another_s_key,
     shared_but_not_full, unused_but_found, kept_but_not_found, twice_unused, key_of_another],
)  # fmt: skip
def test_what_is_wrong_is_one_line(spoil: Callable[[World], None]) -> None:
    world = busy()
    spoil(world)
    with pytest.raises(BlocksDisagree, match=r"^\[block") as caught:
        world.check()
    assert "\n" not in str(caught.value)


def test_sequences_that_are_no_request_s_count_too() -> None:
    world = busy()
    other = Sequence(world.pool, 10)
    other.reserve(3)
    other.length = 3
    world.check([other])
    with pytest.raises(BlocksDisagree, match="1 owners, but 0 sequences"):
        world.check()
    other.length, other.published = 2, 1
    other.trim()
    with pytest.raises(BlocksDisagree, match="published"):
        world.check([other])
