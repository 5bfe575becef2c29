"""The event loop's way to the thread that runs the steps (step_thread.py).

The event loop never waits for a step: requests are checked and made on the loop, and put in line by
the thread before its next step. After a step the loop is told once what it has brought, however
many requests that concerns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.errors import (
    ApiError,
    Draining,
    EngineFailed,
    QueueFull,
    Stopped,
)
from ferrum.runtime.serve.metrics import Metrics
from ferrum.runtime.serve.place import Place
from ferrum.runtime.serve.step_thread import News, StepThread
from ferrum.runtime.serve.ticket import Ticket

_FAILING = 3  # steps in a row that fail before the server calls itself unhealthy


class EngineThread:
    """Takes requests as long as there is room, and knows those that are not at their end.

    All methods but `prepare` are for the event loop, that of the thread which has called `start`.
    """

    def __init__(
        self, llm: LLM, metrics: Metrics, max_queue: int, request_timeout: float = 0.0
    ) -> None:
        """At most `max_queue` requests wait. `request_timeout` is in seconds, 0 is no limit."""
        self._engine, self._metrics = llm.engine, metrics
        self._thread = StepThread(llm, self._deliver, self._fail)
        self._most = llm.settings.max_sequences + max_queue
        self._timeout = request_timeout
        self._usual = 1.0  # seconds that a request takes, a running mean
        self._places: set[Place] = set()  # requests that are made ready
        self._live: set[Ticket] = set()  # and those in line, not at their end
        self._running = 0  # after the last step that the loop was told of
        self._started = self._stopping = False
        self._no_one = asyncio.Event()
        self._no_one.set()
        self.closing = asyncio.Event()  # set when nothing new is taken any more
        self.failed = False
        metrics.watch(self)

    @property
    def draining(self) -> bool:
        """Whether nothing new is taken any more."""
        return self.closing.is_set()

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._places) + max(0, len(self._live) - self.running)

    @property
    def running(self) -> int:
        """Requests that take part in steps."""
        return min(len(self._live), self._running)

    @property
    def idle(self) -> bool:
        """Whether there are no requests."""
        return not self._live and not self._places

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.alive

    @property
    def failing(self) -> bool:
        """Whether the model no longer runs, as far as one can tell."""
        return self.failed or self._thread.failures >= _FAILING

    def prepare(self) -> None:
        """Run a first step, in the thread that will run all others; raises what LLM.prepare does.

        Captured CUDA graphs are a thread's own. Called before `start`, from any thread.
        """
        self._thread.prepare()

    def start(self) -> None:
        """Begin; on the event loop that will be told."""
        self._started = True
        self._thread.start(asyncio.get_running_loop())

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Room for a request that has come, while it is made ready and then submitted; one of a
        single choice is sure to have it then.

        QueueFull (429) or Draining (503) where none is taken now.
        """
        self._check_open()
        self._check_room(1)
        place = Place(self._timeout, self._left)
        self._places.add(place)
        self._no_one.clear()
        try:
            yield place
        finally:
            place.leave()

    def submit(self, ids: Sequence[int], params: SamplingParams, priority: int = 0) -> Ticket:
        """A request for the next step.

        QueueFull (429) or Draining (503) where none is taken now; SessionError where the prompt is
        empty, has an unknown token, or could never fit.
        """
        return self.submit_all(ids, [params], priority)[0]

    def submit_all(
        self,
        ids: Sequence[int],
        params: Sequence[SamplingParams],
        priority: int = 0,
        place: Place | None = None,
    ) -> list[Ticket]:
        """One request per item of `params`, of the same prompt: all of them, or an error.

        One that has a place is taken while the server drains, and its time has run since it came.
        """
        self._check_open(place)
        self._check_room(len(params), place)
        requests = [self._engine.request(ids, one, priority) for one in params]
        waited = 0.0 if place is None else place.waited
        tickets = [
            Ticket(request, self._thread.take_out, self._timeout, waited) for request in requests
        ]
        self._live.update(tickets)
        self._no_one.clear()
        self._thread.put(tickets)
        return tickets

    async def drain(self) -> None:
        """Take no new requests; returns when those that were taken are at their end."""
        self.closing.set()
        await self._no_one.wait()

    def stop(self) -> None:
        """End all requests where they are (Stopped) and the thread after its present step."""
        self.closing.set()
        self._stopping = True
        self._end_with(Stopped)
        self._thread.stop()

    async def stopped(self) -> None:
        """Returns when the thread has ended; every block is free then."""
        await asyncio.to_thread(self._thread.join)

    def _check_open(self, place: Place | None = None) -> None:
        if self.failed:
            raise EngineFailed
        if place is not None and self._stopping:
            raise Stopped
        if place is None and self.draining:
            raise Draining
        assert self._started, "submit before start"

    def _check_room(self, more: int, place: Place | None = None) -> None:
        """QueueFull where there are not so many places, but for those that others have."""
        others = len(self._places - {place})
        if len(self._live) + others + more > self._most:
            raise QueueFull(self.queued, self._seconds_to_a_place())

    def _left(self, place: Place) -> None:
        self._places.discard(place)
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self.idle:
            self._no_one.set()

    def _seconds_to_a_place(self) -> int:
        """About the time until a request ends: by Little's law, with as many as now."""
        return min(60, 1 + int(self._usual / max(1, len(self._live))))

    def _deliver(self, news: News) -> None:
        if news.report is not None:
            self._metrics.step(news.report)
        self._running = news.running
        self._metrics.tokens(sum(len(pieces) for _, pieces, _ in news.tickets))
        for ticket, pieces, last in news.tickets:
            if not ticket.ended:  # stopped in the meantime
                ticket.deliver(pieces)
                if last:
                    self._end(ticket)

    def _end(self, ticket: Ticket, error: ApiError | None = None) -> None:
        ticket.end(error)
        self._live.discard(ticket)
        self._tell_if_idle()
        if ticket.request.finished is not None:
            self._usual += 0.1 * (ticket.request.finished - ticket.request.arrived - self._usual)
        self._metrics.ended(ticket)

    def _fail(self) -> None:
        self.failed = True
        self._end_with(EngineFailed)

    def _end_with(self, error: Callable[[], ApiError]) -> None:
        for place in self._places:
            place.end(error())
        for ticket in list(self._live):
            self._end(ticket, error())
