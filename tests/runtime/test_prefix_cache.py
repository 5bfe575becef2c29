"""Prompts that begin alike find each other's full blocks, and nothing else."""

from __future__ import annotations

from block_world import Job, World
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.prefix_cache import DIGEST_BYTES, Chain, PrefixCache
from ferrum.runtime.sequence import Sequence

TOKENS = st.lists(st.integers(0, 2), max_size=20)


@given(TOKENS, TOKENS, st.integers(1, 4))
def test_digests_are_the_same_where_all_tokens_up_to_there_are(
    one: list[int], other: list[int], size: int
) -> None:
    chains = Chain(one, size), Chain(other, size)
    for i in range(min(len(one), len(other)) // size):
        end = (i + 1) * size
        assert (chains[0][i] == chains[1][i]) == (one[:end] == other[:end])


def test_digests_are_those_of_other_processes_too() -> None:
    """They go into files."""
    tokens = [1, 2, 3, 150_000]
    assert Chain(tokens, 2)[1].hex() == "b8b10afdc5ef59f4b0b6b3e1cdd52047"
    assert len(Chain(tokens, 2)[0]) == DIGEST_BYTES


def test_digests_follow_a_list_that_grows() -> None:
    tokens = [1, 2]
    chain = Chain(tokens, 2)
    first = chain[0]
    tokens += [3, 4]
    assert (chain[0], chain[1]) == (first, Chain([1, 2, 3, 4], 2)[1])


def request(pool: BlockPool, tokens: list[int]) -> Job:
    return Job(Sequence(pool, 100), tokens, 1)


def filled(cache: PrefixCache[Job], pool: BlockPool, tokens: list[int]) -> Job:
    job = request(pool, tokens)
    cache.begin(job, cache.find(job).blocks)
    job.sequence.reserve(len(tokens) - job.sequence.length)
    job.sequence.length = len(tokens)
    cache.publish(job)
    return job


def test_a_chain_that_lost_its_middle_ends_there() -> None:
    pool = BlockPool(9, 2)
    cache: PrefixCache[Job] = PrefixCache(pool)
    job = filled(cache, pool, [1, 2, 3, 4, 5, 6])
    blocks = job.sequence.blocks.tolist()
    job.sequence.release()
    pool.share(blocks[0])
    pool.share(blocks[2])
    pool.take(7)  # all others, the second block of the chain too
    assert cache.find(request(pool, [1, 2, 3, 4, 5, 6, 7])).blocks == blocks[:1]


def test_blocks_are_found_only_once_their_step_is_over() -> None:
    pool = BlockPool(9, 2)
    cache: PrefixCache[Job] = PrefixCache(pool)
    first, second = request(pool, [1, 2, 3, 4]), request(pool, [1, 2, 3, 4, 5])
    cache.begin(first, [])
    assert cache.find(second).computing is first
    first.sequence.reserve(3)
    first.sequence.length = 3
    assert cache.find(second).blocks == []
    cache.publish(first)
    found = cache.find(second)
    assert (found.blocks, found.computing) == (first.sequence.blocks.tolist()[:1], first)
    cache.end(first)
    assert cache.find(second).computing is None


def test_without_reuse_nothing_is_found_published_or_waited_for() -> None:
    world = World(blocks=20, budget=40, reuse=False)
    first, second = world.add([1] * 12), world.add([1] * 12)
    assert world.step() == [(first, 12), (second, 12)]
    third = world.add([1] * 12)
    assert dict(world.step())[third] == 12
    assert not list(world.pool.published())
    assert (world.prefix.hits, world.prefix.queries) == (0, 36)
