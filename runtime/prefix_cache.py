"""Blocks that sequences which begin alike share: found and published by what they hold.

A full block is published under a digest of its tokens and, by the digest of the block before it, of
all tokens before them: equal digests stand for equal keys and values. The digests are long enough
(128 bits, of a cryptographic hash) that nobody finds two prompts with the same.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.sequence import Sequence

DIGEST_BYTES = 16


class Chain:
    """The digests of a list of tokens that only grows, one for each full block of it."""

    def __init__(self, tokens: list[int], block_size: int) -> None:
        self._tokens, self._block_size = tokens, block_size
        self._digests: list[bytes] = []

    def __getitem__(self, block: int) -> bytes:
        """The digest of a full block; it and those before it are computed when first asked for."""
        while len(self._digests) <= block:
            start = len(self._digests) * self._block_size
            tokens = self._tokens[start : start + self._block_size]
            assert len(tokens) == self._block_size
            before = self._digests[-1] if self._digests else b""
            whole = before + array("i", tokens).tobytes()
            self._digests.append(hashlib.blake2b(whole, digest_size=DIGEST_BYTES).digest())
        return self._digests[block]


class Cacheable(Protocol):
    """What the cache knows of a request."""

    sequence: Sequence
    tokens: list[int]
    chain: Chain  # of its tokens
    admitted: bool  # whether it has ever run
    cached_tokens: int  # of its prompt, those that were there when it first ran


C = TypeVar("C", bound=Cacheable)


@dataclass(frozen=True)
class Found(Generic[C]):
    """What is there of a request's beginning."""

    blocks: list[int]
    computing: C | None  # the running request that computes the block after them


class PrefixCache(Generic[C]):
    """Finds the blocks that requests can begin with; what they compute is found by others."""

    def __init__(self, pool: BlockPool, *, reuse: bool = True) -> None:
        """`reuse`: whether any block is found or published at all."""
        self._pool, self._reuse = pool, reuse
        self._computing: dict[bytes, C] = {}  # digests of blocks that running ones lack
        self.queries = 0  # tokens of the prompts that were looked up
        self.hits = 0  # of them, those that were there

    def find(self, request: C) -> Found[C]:
        """The longest chain of published blocks of a request's tokens; its last token must run."""
        blocks: list[int] = []
        if self._reuse:
            for i in range((len(request.tokens) - 1) // self._pool.block_size):
                block = self._pool.find(request.chain[i])
                if block is None:
                    return Found(blocks, self._computing.get(request.chain[i]))
                blocks.append(block)
        return Found(blocks, None)

    def begin(self, request: C, blocks: list[int]) -> None:
        """A request starts to run with what was found; others may wait for its next blocks."""
        request.sequence.share(blocks)
        if not request.admitted:
            request.admitted, request.cached_tokens = True, request.sequence.length
            self.queries += len(request.tokens)
            self.hits += request.sequence.length
        if self._reuse:
            for i in range(len(blocks), len(request.tokens) // self._pool.block_size):
                self._computing.setdefault(request.chain[i], request)

    def publish(self, request: C) -> None:
        """Let others find the blocks that have become full; for tokens that will not run again."""
        sequence = request.sequence
        full = sequence.length // self._pool.block_size
        if not self._reuse or sequence.published == full:
            return
        for i in range(sequence.published, full):
            self._pool.publish(int(sequence.blocks[i]), request.chain[i])
            self._computed(request, i)
            sequence.published = i + 1

    def end(self, request: C) -> None:
        """A request stops running: nobody waits for blocks of its any more."""
        if self._reuse:
            full = len(request.tokens) // self._pool.block_size
            for i in range(request.sequence.published, full):
                self._computed(request, i)

    def clear(self) -> None:
        """Forget what no running request has."""
        self._pool.forget()

    def _computed(self, request: C, block: int) -> None:
        if self._computing.get(request.chain[block]) is request:
            del self._computing[request.chain[block]]
