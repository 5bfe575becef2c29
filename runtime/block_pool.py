"""Which blocks of the KV caches are free, and which are kept or shared: ids only, no memory.

Each block is one of
    unused     nobody has it, and what it holds is of no use,
    cached     nobody has it, but it was published under a key and may be wanted again,
    used       it has owners, of whom there are several only where it is published.
Unused and cached blocks are both free. Cached ones are taken last, the one longest out of use
first. Blocks are handed out as they were left; nobody reads a slot that it has not written.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping


class OutOfBlocks(ValueError):
    """More blocks were asked for than are free; none was taken."""

    def __init__(self, wanted: int, free: int) -> None:
        super().__init__(f"[block pool] {wanted} blocks wanted, {free} free")
        self.wanted, self.free = wanted, free


class BlocksDisagree(AssertionError):
    """A block is lost, or in two places; one line. A bug of ferrum's own."""


class BlockPool:
    """Blocks 0 .. blocks - 1 of `block_size` tokens each.

    Of the unused blocks the one given back last is handed out first: its memory is touched already,
    and warm.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        if blocks < 1 or block_size < 1:
            raise ValueError(f"[block pool] got {blocks} blocks of {block_size} -> at least 1 of 1")
        self.blocks, self.block_size = blocks, block_size
        self._unused = list(range(blocks - 1, -1, -1))
        self._owners = array("I", bytes(blocks * array("I").itemsize))
        self._keys: dict[int, bytes] = {}  # of the published blocks
        self._published: dict[bytes, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()  # the longest out of use comes first

    @property
    def free(self) -> int:
        """How many blocks can be taken: the unused and the cached ones."""
        return len(self._unused) + len(self._cached)

    @property
    def unused(self) -> int:
        """How many blocks hold nothing of use."""
        return len(self._unused)

    @property
    def cached(self) -> int:
        """How many blocks are kept though nobody has them."""
        return len(self._cached)

    @property
    def used(self) -> int:
        """How many blocks have owners."""
        return self.blocks - self.free

    def blocks_for(self, tokens: int) -> int:
        """How many blocks that many tokens of one sequence fill."""
        return -(-tokens // self.block_size)

    def take(self, count: int) -> list[int]:
        """`count` free blocks, or `OutOfBlocks` and none."""
        if count < 0:
            raise ValueError(f"[block pool] {count} blocks wanted -> 0 or more")
        if count > self.free:
            raise OutOfBlocks(count, self.free)
        taken = [self._unused.pop() for _ in range(min(count, len(self._unused)))]
        while len(taken) < count:
            taken.append(self._evict())
        for block in taken:
            self._owners[block] = 1
        return taken

    def give(self, blocks: Iterable[int]) -> None:
        """Take blocks back from one owner; ValueError, and none is taken, where one has no owner.

        A sequence's blocks come in the order of its tokens: of those that stay cached the last is
        then the first to go, since without the blocks before it a block is of no use.
        """
        returned = list(blocks)
        for block in returned:
            if not 0 <= block < self.blocks or not self._owners[block]:
                raise ValueError(f"[block pool] block {block} given back, but nobody has it")
        if len(set(returned)) != len(returned):
            raise ValueError("[block pool] a block is given back twice in one call")
        for block in reversed(returned):
            self._owners[block] -= 1
            if self._owners[block]:
                continue
            if block in self._keys:
                self._cached[block] = None
            else:
                self._unused.append(block)

    def publish(self, block: int, key: bytes) -> None:
        """Let others find a used block by what it holds; a key that is known stays as it is."""
        if not self._owners[block] or self._keys.get(block, key) != key:
            raise ValueError(f"[block pool] block {block} published -> one in use, under one key")
        if key not in self._published:
            self._published[key] = block
            self._keys[block] = key

    def find(self, key: bytes) -> int | None:
        """The block that was published under a key, if it is still there."""
        return self._published.get(key)

    def share(self, block: int) -> None:
        """One owner more for a published block."""
        if block not in self._keys:
            raise ValueError(f"[block pool] block {block} shared -> one that is published")
        if not self._owners[block]:
            del self._cached[block]
        self._owners[block] += 1

    def owners(self, block: int) -> int:
        """How many have a block."""
        return self._owners[block]

    def idle(self, blocks: Iterable[int]) -> int:
        """How many of some blocks nobody has: so many free ones fewer there are with an owner."""
        return sum(not self._owners[block] for block in blocks)

    def key(self, block: int) -> bytes | None:
        """What a block is published under."""
        return self._keys.get(block)

    def published(self) -> Iterator[tuple[int, bytes]]:
        """Published blocks and their keys, in the order in which they would be taken.

        Those in use come last; of one sequence's blocks, here too, the last comes first.
        """
        for block in self._cached:
            yield block, self._keys[block]
        for block, key in reversed(self._keys.items()):
            if self._owners[block]:
                yield block, key

    def forget(self) -> None:
        """Keep no block any longer that nobody has."""
        while self._cached:
            self._unused.append(self._evict())

    def check(self, owners: Mapping[int, int]) -> None:
        """Raise BlocksDisagree unless each block is unused, cached or used by so many owners.

        `owners`: how many sequences have each block, as they themselves say; slow.
        """
        unused = Counter(self._unused)
        for block in range(self.blocks):
            found, cached, known = owners.get(block, 0), block in self._cached, block in self._keys
            if self._owners[block] != found:
                raise BlocksDisagree(
                    f"[block pool] block {block} has {self._owners[block]} owners, but {found} "
                    "sequences have it"
                )
            if unused[block] + cached + (found > 0) != 1:
                raise BlocksDisagree(
                    f"[block pool] block {block} is {unused[block]} times unused and {cached:d} "
                    f"times cached, and {found} sequences have it"
                )
            if known if unused[block] else (cached or found > 1) and not known:
                raise BlocksDisagree(
                    f"[block pool] block {block} of {found} sequences can{'' if known else 'not'} "
                    "be found"
                )
        if self._published != {key: block for block, key in self._keys.items()}:
            raise BlocksDisagree("[block pool] keys and blocks are not those of each other")

    def _evict(self) -> int:
        """The cached block that was longest out of use; nobody finds it any more."""
        block, _ = self._cached.popitem(last=False)
        del self._published[self._keys.pop(block)]
        return block
