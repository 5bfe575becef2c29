"""The thread that runs the steps, and the event loop's way to it.

The event loop never waits for a step: requests are checked and made on the loop, and put in line by
the thread before its next step. After a step the loop is told once what it has brought, however
many requests that concerns.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ferrum.runtime.engine import StepReport
from ferrum.runtime.llm import LLM
from ferrum.runtime.request import Piece
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.errors import (
    ApiError,
    Draining,
    EngineFailed,
    QueueFull,
    StepFailed,
    Stopped,
)
from ferrum.runtime.serve.metrics import Metrics
from ferrum.runtime.serve.place import Place
from ferrum.runtime.serve.ticket import Ticket

_log = logging.getLogger("ferrum.serve")
_FAILING = 3  # steps in a row that fail before the server calls itself unhealthy


@dataclass
class _News:
    """What the event loop learns of a step: of each request its pieces and whether that is all."""

    tickets: list[tuple[Ticket, list[Piece], bool]]
    report: StepReport | None
    running: int  # requests with blocks


class EngineThread:
    """Runs steps while there are requests, and sleeps otherwise.

    All methods but `prepare` are for the event loop, that of the thread which has called `start`.
    """

    def __init__(
        self, llm: LLM, metrics: Metrics, max_queue: int, request_timeout: float = 0.0
    ) -> None:
        """At most `max_queue` requests wait. `request_timeout` is in seconds, 0 is no limit."""
        self._llm, self._engine, self._metrics = llm, llm.engine, metrics
        self._most = llm.settings.max_sequences + max_queue
        self._timeout = request_timeout
        self._usual = 1.0  # seconds that a request takes, a running mean
        self._wake = threading.Condition()
        self._arrived: deque[Ticket] = deque()  # on their way from the loop to the thread
        self._given_up: deque[Ticket] = deque()
        self._stopping = False
        self._in_line: list[Ticket] = []  # the thread's own: known to the engine
        self._places: set[Place] = set()  # the loop's own: requests that are made ready
        self._live: set[Ticket] = set()  # and those in line, not at their end
        self._running = 0  # after the last step that the loop was told of
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._no_one = asyncio.Event()
        self._no_one.set()
        self.closing = asyncio.Event()  # set when nothing new is taken any more
        self.failed = False
        self._failures = 0  # steps in a row
        self._report: StepReport | None = None  # of a step that the loop was not told of
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
        return self._thread is not None and self._thread.is_alive()

    @property
    def failing(self) -> bool:
        """Whether the model no longer runs, as far as one can tell."""
        return self.failed or self._failures >= _FAILING

    def prepare(self) -> None:
        """Run a first step, in the thread that will run all others; raises what LLM.prepare does.

        Captured CUDA graphs are a thread's own. Called before `start`, from any thread.
        """
        prepared: Future[None] = Future()
        self._begin(prepared)
        prepared.result()

    def start(self) -> None:
        """Begin; on the event loop that will be told."""
        self._loop = asyncio.get_running_loop()
        if self._thread is None:
            self._begin(None)

    def _begin(self, prepared: Future[None] | None) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(prepared,), name="ferrum-engine", daemon=True
        )
        self._thread.start()

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
        tickets = [Ticket(request, self._cancel, self._timeout, waited) for request in requests]
        self._live.update(tickets)
        self._no_one.clear()
        self._arrived.extend(tickets)
        self._notify()
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
        self._notify()

    async def stopped(self) -> None:
        """Returns when the thread has ended; every block is free then."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _check_open(self, place: Place | None = None) -> None:
        if self.failed:
            raise EngineFailed
        if place is not None and self._stopping:
            raise Stopped
        if place is None and self.draining:
            raise Draining
        assert self._loop is not None, "submit before start"

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

    def _cancel(self, ticket: Ticket) -> None:
        self._given_up.append(ticket)
        self._notify()

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    # --- on the thread

    def _run(self, prepared: Future[None] | None) -> None:
        if prepared is not None and not self._has_prepared(prepared):
            return
        try:
            while self._wait():
                self._take_in()
                self._step()
                self._hand_over()
            self._end_all()
        except BaseException:
            _log.critical("the engine's thread has failed", exc_info=True)
            self._tell(self._fail)

    def _has_prepared(self, prepared: Future[None]) -> bool:
        try:
            self._llm.prepare()
        except BaseException as error:
            prepared.set_exception(error)
            return False
        prepared.set_result(None)
        return True

    def _wait(self) -> bool:
        """Sleep until there is something to do; False where that is to end."""
        with self._wake:
            while not (self._in_line or self._arrived or self._given_up or self._stopping):
                self._wake.wait()
        return not self._stopping

    def _take_in(self) -> None:
        """Put new requests in line and take given-up ones out."""
        if not (self._arrived or self._given_up):
            return
        with self._llm.lock:
            # Arrivals first: who gives up at once is in line by then.
            given_up = [self._given_up.popleft() for _ in range(len(self._given_up))]
            while self._arrived:
                ticket = self._arrived.popleft()
                self._engine.enqueue(ticket.request)
                self._in_line.append(ticket)
            for ticket in given_up:
                self._engine.cancel(ticket.request)

    def _step(self) -> None:
        try:
            with self._llm.lock:
                if self._engine.idle:
                    return
                self._engine.step()
                self._report = self._engine.last_step
            self._failures = 0
        except AssertionError:  # a broken invariant: nothing that a further step does can be right
            raise
        except Exception:
            _log.exception("a step has failed, and its requests with it")
            self._failures += 1
            self._fail_step()

    def _fail_step(self) -> None:
        failed = [r for r in self._engine.batch if r.finish_reason is None]
        assert failed, "a step fails for the requests that it was to advance"
        with self._llm.lock:
            for request in failed:
                self._engine.fail(request, StepFailed())

    def _hand_over(self) -> None:
        """Tell the event loop what is new, in one call."""
        news, ended = _News([], self._report, len(self._engine.scheduler.running)), 0
        self._report = None
        with self._llm.lock:  # another thread may use the model too, and its steps advance all
            for ticket in self._in_line:
                request = ticket.request
                last = request.finish_reason is not None
                if request.pieces or last:
                    news.tickets.append((ticket, list(request.pieces), last))
                    request.pieces.clear()
                    ended += last
        if ended:
            over = {ticket for ticket, _, last in news.tickets if last}
            self._in_line = [ticket for ticket in self._in_line if ticket not in over]
        if news.tickets or news.report is not None:
            self._tell(self._deliver, news)

    def _end_all(self) -> None:
        self._take_in()
        with self._llm.lock:
            for ticket in self._in_line:
                self._engine.cancel(ticket.request)
        self._in_line.clear()

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has been closed
            self._stopping = True

    # --- on the event loop

    def _deliver(self, news: _News) -> None:
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
