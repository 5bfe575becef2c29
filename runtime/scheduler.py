"""Which sequences advance in the next step, and by how many tokens: no tensor, no model.

Decodes come first, one token each; what is left of the step's tokens goes to prompts, in the order
of their priority and arrival. When blocks are short, newcomers wait, and of those that run the last
in that order gives its blocks back (and is computed anew later) rather than that one before it
stops.

A prompt of many steps does not hold up those behind it: while they can end in a step it sits that
step out, but never two in a row. So a short prompt comes at most one piece of the long one later
than it would alone, and the long one has every other step.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.prefix_cache import Cacheable, PrefixCache


class Schedulable(Cacheable, Protocol):
    """What the scheduler knows of a request; `tokens` from sequence.length on must be run."""

    priority: int  # those of lower value come first
    arrival: int  # its place among those of its priority, which the scheduler gives it


R = TypeVar("R", bound=Schedulable)


@dataclass(frozen=True)
class Piece(Generic[R]):
    """The next `count` tokens of a request, to be run in one step, and guesses at those after."""

    request: R
    count: int
    drafts: tuple[int, ...] = ()


class Scheduler(Generic[R]):
    """Requests in two lines, each by priority and arrival: running (with blocks) and waiting."""

    def __init__(
        self,
        pool: BlockPool,
        max_sequences: int,
        step_tokens: int,
        prefix: PrefixCache[R] | None = None,
    ) -> None:
        """`prefix` finds blocks that requests can begin with; none by default."""
        if step_tokens < max_sequences:
            raise ValueError(
                f"[scheduler] step_tokens {step_tokens} -> at least max_sequences {max_sequences}"
            )
        self._pool, self._max_sequences, self._step_tokens = pool, max_sequences, step_tokens
        self._prefix = PrefixCache[R](pool, reuse=False) if prefix is None else prefix
        self._arrivals = 0
        self._held_back = False  # whether long prompts sat the last step out
        self.waiting: list[R] = []
        self.running: list[R] = []
        self.preemptions = 0

    def add(self, request: R) -> None:
        """Put a request into the line. It must fit into the pool by itself."""
        request.arrival = self._arrivals
        self._arrivals += 1
        insort(self.waiting, request, key=_order)

    def remove(self, request: R) -> None:
        """Take a request out, finished or cancelled; its blocks are free at once."""
        if request in self.running:
            self.running.remove(request)
            self._prefix.end(request)
        else:
            self.waiting.remove(request)
        request.sequence.release()

    def next_batch(self) -> list[Piece[R]]:
        """The next step's pieces; together they fit into the free blocks. Empty when idle."""
        plan: _Plan[R] = _Plan(self._pool, self._step_tokens)
        decodes: list[R] = []
        prompts: list[R] = []
        for request in self.running:
            (decodes if _remaining(request) == 1 else prompts).append(request)
        for request in decodes:
            if not plan.lost(request):  # to one before it, earlier in this step
                self._advance(plan, request)
        prompts = [request for request in prompts if not plan.lost(request)]
        held_back, self._held_back = self._held_back, False
        if prompts or (self.waiting and len(self.running) < self._max_sequences):
            self._serve_prompts(plan, prompts, held_back)
        return plan.pieces()

    def _serve_prompts(self, plan: _Plan[R], prompts: list[R], held_back: bool) -> None:
        """Plan prompts in their order, or those that end in this step without the longest one.

        `held_back`: whether that sat the last step out. Its last piece may fit into this step too,
        and yet is what a shorter one would wait for.
        """
        long = max(prompts, key=_remaining, default=None)
        if long is not None and not held_back:
            served = self._serve(plan, prompts, ahead_of=long)
            # Where only those before it end, it may as well have what they leave of the step.
            self._held_back = any(_order(request) > _order(long) for request in served)
        if not self._held_back:
            self._serve(plan, prompts)

    def _serve(self, plan: _Plan[R], prompts: list[R], ahead_of: R | None = None) -> list[R]:
        """Plan running prompts and start waiting ones, in one order; returns whom it has planned.

        With `ahead_of` only shorter ones that end in this step, and none that is less urgent.
        """
        served = []
        door = _Door(self._pool, self.running, self._max_sequences)
        for request, waits in self._line(prompts, door):
            if not plan.budget or (ahead_of is not None and request.priority > ahead_of.priority):
                break
            if plan.has(request) or plan.lost(request):
                continue
            most = None if ahead_of is None else min(plan.budget, _remaining(ahead_of) - 1)
            if waits:
                self._admit(plan, door, request, most)
            elif most is None or _remaining(request) <= most:
                self._advance(plan, request)
            if plan.has(request):
                served.append(request)
        return served

    def _line(self, prompts: list[R], door: _Door) -> Iterator[tuple[R, bool]]:
        """Running prompts and, while the door is open, waiting ones: in order, and if they wait."""
        waiting = deque(self.waiting)
        for prompt in prompts:
            while door.open and waiting and _order(waiting[0]) < _order(prompt):
                yield waiting.popleft(), True
            yield prompt, False
        while door.open and waiting:
            yield waiting.popleft(), True

    def _advance(self, plan: _Plan[R], request: R) -> None:
        """Plan a running request's next tokens, taking blocks from later ones if need be."""
        wanted, room = min(_remaining(request), plan.budget), plan.room(request)
        while wanted and not room and self.running[-1] is not request:
            self._preempt(plan, self.running[-1])
            room = plan.room(request)
        count = min(wanted, room)
        if count:
            plan.add(request, count)
        elif wanted and len(self.running) > 1:
            self._preempt(plan, request)  # itself the last

    def _preempt(self, plan: _Plan[R], victim: R) -> None:
        plan.drop(victim)
        self.remove(victim)
        insort(self.waiting, victim, key=_order)
        self.preemptions += 1

    def _admit(self, plan: _Plan[R], door: _Door, request: R, most: int | None) -> None:
        """Start a waiting request if its whole prompt fits beside those half-way through.

        One whose next block another one before it is computing keeps its place until that is there,
        and so does one of more than `most` tokens.
        """
        if plan.preempted:
            return
        found = self._prefix.find(request)
        tokens = len(request.tokens) - len(found.blocks) * self._pool.block_size
        if not door.lets_in(self._pool.blocks_for(tokens) + self._pool.idle(found.blocks)):
            return
        awaits = found.computing is not None and _order(found.computing) < _order(request)
        if awaits or (most is not None and tokens > most):
            return
        self.waiting.remove(request)
        insort(self.running, request, key=_order)
        self._prefix.begin(request, found.blocks)
        plan.add(request, min(tokens, plan.budget, plan.room(request)))


class _Door:
    """What newcomers can have in a step: sequences, and blocks that no running one will need.

    Nobody gets past one that does not fit; one that is let in and waits nevertheless keeps what it
    will take.
    """

    def __init__(self, pool: BlockPool, running: Items[Schedulable], max_sequences: int) -> None:
        owed = sum(request.sequence.blocks_needed(_remaining(request)) for request in running)
        self._blocks, self._places = pool.free - owed, max_sequences - len(running)
        self._alone = not running
        self.open = self._places > 0

    def lets_in(self, blocks: int) -> bool:
        """Whether one that takes so many free blocks fits; it does where nobody else runs."""
        if not self._alone and blocks > self._blocks:
            self.open = False
            return False
        self._blocks -= blocks
        self._places -= 1
        self._alone, self.open = False, self._places > 0
        return True


class _Plan(Generic[R]):
    """A step as it is put together: what it takes of the tokens and of the free blocks."""

    def __init__(self, pool: BlockPool, budget: int) -> None:
        self._pool, self.budget = pool, budget
        self._pieces: dict[int, Piece[R]] = {}  # by id: requests need not be hashable
        self._lost: set[int] = set()
        self._promised = 0

    @property
    def preempted(self) -> bool:
        """Whether blocks were so short that someone has lost its own."""
        return bool(self._lost)

    def has(self, request: R) -> bool:
        return id(request) in self._pieces

    def lost(self, request: R) -> bool:
        return id(request) in self._lost

    def room(self, request: R) -> int:
        """How many tokens of a request would fit beside what is planned."""
        return request.sequence.room(self._pool.free - self._promised)

    def add(self, request: R, count: int) -> None:
        if count:
            self._pieces[id(request)] = Piece(request, count)
            self._promised += request.sequence.blocks_needed(count)
            self.budget -= count

    def drop(self, request: R) -> None:
        self._lost.add(id(request))
        piece = self._pieces.pop(id(request), None)
        if piece is not None:
            self._promised -= request.sequence.blocks_needed(piece.count)
            self.budget += piece.count

    def pieces(self) -> list[Piece[R]]:
        return list(self._pieces.values())


def _remaining(request: Schedulable) -> int:
    return len(request.tokens) - request.sequence.length


def _order(request: Schedulable) -> tuple[int, int]:
    return request.priority, request.arrival
