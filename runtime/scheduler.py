"""Which sequences advance in the next step, and by how many tokens: no tensor, no model.

Decodes come first, one token each; what is left of the step's tokens goes to prompts, first come
first served. When blocks are short, newcomers wait, and of those that run the youngest gives its
blocks back (and is computed anew later) rather than that an older one stops.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.sequence import Sequence


class Schedulable(Protocol):
    """What the scheduler knows of a request."""

    sequence: Sequence
    tokens: list[int]  # prompt and what was generated; those from sequence.length on must be run


R = TypeVar("R", bound=Schedulable)


@dataclass(frozen=True)
class Piece(Generic[R]):
    """The next `count` tokens of a request, to be run in one step."""

    request: R
    count: int


class Scheduler(Generic[R]):
    """Requests in two lines, each in order of arrival: running (with blocks) and waiting."""

    def __init__(self, pool: BlockPool, max_sequences: int, step_tokens: int) -> None:
        if step_tokens < max_sequences:
            raise ValueError(
                f"[scheduler] step_tokens {step_tokens} -> at least max_sequences {max_sequences}"
            )
        self._pool, self._max_sequences, self._step_tokens = pool, max_sequences, step_tokens
        self.waiting: deque[R] = deque()
        self.running: list[R] = []
        self.preemptions = 0

    def add(self, request: R) -> None:
        """Put a request at the end of the line. It must fit into the pool by itself."""
        self.waiting.append(request)

    def remove(self, request: R) -> None:
        """Take a request out, finished or cancelled; its blocks are free at once."""
        line = self.running if request in self.running else self.waiting
        line.remove(request)
        request.sequence.release()

    def next_batch(self) -> list[Piece[R]]:
        """The next step's pieces; together they fit into the free blocks. Empty when idle."""
        plan: _Plan[R] = _Plan(self._pool, self._step_tokens)
        preempted = self.preemptions
        for request in [r for r in self.running if _remaining(r) == 1]:
            self._advance(plan, request)
        for request in [r for r in self.running if _remaining(r) > 1]:
            self._advance(plan, request)
        if self.preemptions == preempted:
            self._admit(plan)
        return plan.pieces()

    def _advance(self, plan: _Plan[R], request: R) -> None:
        """Plan a running request's next tokens, taking blocks from younger ones if need be."""
        if request not in self.running:  # preempted for an older one, earlier in this step
            return
        wanted = min(_remaining(request), plan.budget)
        while wanted and not plan.room(request) and self.running[-1] is not request:
            self._preempt(plan, self.running[-1])
        count = min(wanted, plan.room(request))
        if count:
            plan.add(request, count)
        elif wanted and len(self.running) > 1:
            self._preempt(plan, request)  # itself the youngest

    def _preempt(self, plan: _Plan[R], victim: R) -> None:
        plan.drop(victim)
        self.running.remove(victim)
        victim.sequence.release()
        self.waiting.appendleft(victim)
        self.preemptions += 1

    def _admit(self, plan: _Plan[R]) -> None:
        """Start waiting requests while their whole prompts fit beside those half-way through."""
        while self.waiting and plan.budget and len(self.running) < self._max_sequences:
            request = self.waiting[0]
            owed = sum(r.sequence.blocks_needed(_remaining(r)) for r in self.running)
            if self.running and owed + self._needed(request) > self._pool.free:
                return
            self.running.append(self.waiting.popleft())
            plan.add(request, min(_remaining(request), plan.budget, plan.room(request)))

    def _needed(self, request: R) -> int:
        return request.sequence.blocks_needed(_remaining(request))


class _Plan(Generic[R]):
    """A step as it is put together: what it takes of the tokens and of the free blocks."""

    def __init__(self, pool: BlockPool, budget: int) -> None:
        self._pool, self.budget = pool, budget
        self._counts: dict[int, Piece[R]] = {}  # by id: requests need not be hashable
        self._promised = 0

    def room(self, request: R) -> int:
        """How many tokens of a request would fit beside what is planned."""
        return request.sequence.room(self._pool.free - self._promised)

    def add(self, request: R, count: int) -> None:
        self._counts[id(request)] = Piece(request, count)
        self._promised += request.sequence.blocks_needed(count)
        self.budget -= count

    def drop(self, request: R) -> None:
        piece = self._counts.pop(id(request), None)
        if piece is not None:
            self._promised -= request.sequence.blocks_needed(piece.count)
            self.budget += piece.count

    def pieces(self) -> list[Piece[R]]:
        return list(self._counts.values())


def _remaining(request: Schedulable) -> int:
    return len(request.tokens) - request.sequence.length
