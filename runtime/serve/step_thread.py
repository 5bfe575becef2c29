"""The thread that runs the steps while there are requests, and sleeps otherwise."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ferrum.runtime.engine import StepReport
from ferrum.runtime.llm import LLM
from ferrum.runtime.request import Piece
from ferrum.runtime.serve.errors import StepFailed
from ferrum.runtime.serve.ticket import Ticket

_log = logging.getLogger("ferrum.serve")


@dataclass
class News:
    """What the event loop learns of a step: of each request its pieces and whether that is all."""

    tickets: list[tuple[Ticket, list[Piece], bool]]
    report: StepReport | None
    running: int  # requests with blocks


class StepThread:
    """Puts requests in line before its next step, and tells the event loop once after each.

    Methods may be called from any thread.
    """

    def __init__(self, llm: LLM, deliver: Callable[[News], None], fail: Callable[[], None]) -> None:
        """Both are called on the event loop: after a step, and when there will be no more, for
        something is wrong that is no single request's fault."""
        self._llm, self._engine = llm, llm.engine
        self._deliver, self._fail = deliver, fail
        self._wake = threading.Condition()
        self._arrived: deque[Ticket] = deque()  # on their way to the thread
        self._given_up: deque[Ticket] = deque()
        self._stopping = False
        self._in_line: list[Ticket] = []  # the thread's own: known to the engine
        self._report: StepReport | None = None  # of a step that the loop was not told of
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.failures = 0  # steps in a row that have failed

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def prepare(self) -> None:
        """Begin with a first step, without a request; raises what LLM.prepare does."""
        prepared: Future[None] = Future()
        self._begin(prepared)
        prepared.result()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin where it has not; `loop` will be told."""
        self._loop = loop
        if self._thread is None:
            self._begin(None)

    def put(self, tickets: Iterable[Ticket]) -> None:
        """New requests."""
        self._arrived.extend(tickets)
        self._notify()

    def take_out(self, ticket: Ticket) -> None:
        """One that is wanted no more."""
        self._given_up.append(ticket)
        self._notify()

    def stop(self) -> None:
        """End after the present step; every block is free then."""
        self._stopping = True
        self._notify()

    def join(self) -> None:
        """Wait for that."""
        if self._thread is not None:
            self._thread.join()

    def _begin(self, prepared: Future[None] | None) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(prepared,), name="ferrum-engine", daemon=True
        )
        self._thread.start()

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
            self.failures = 0
        except AssertionError:  # a broken invariant: nothing that a further step does can be right
            raise
        except Exception:
            _log.exception("a step has failed, and its requests with it")
            self.failures += 1
            self._fail_step()

    def _fail_step(self) -> None:
        failed = [r for r in self._engine.batch if r.finish_reason is None]
        assert failed, "a step fails for the requests that it was to advance"
        with self._llm.lock:
            for request in failed:
                self._engine.fail(request, StepFailed())

    def _hand_over(self) -> None:
        """Tell the event loop what is new, in one call."""
        news, ended = News([], self._report, len(self._engine.scheduler.running)), 0
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
