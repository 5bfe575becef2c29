"""One request as the event loop sees it: pieces to wait for, and a way to give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from ferrum.runtime.request import Completion, FinishReason, Piece, Request
from ferrum.runtime.serve.errors import ApiError, Stopped, TimeLimit


class Ticket:
    """Iterates over what the steps bring: all pieces that came since the last look, as a list.

    At its end the iteration raises what the request failed with, if it did. Used in a `with`
    statement the request is cancelled where the block is left before its end.

    A request whose time is up ends with finish_reason "length" if it has generated something, since
    that is what clients know as "cut off by a limit", and with TimeLimit (504) if it has not.
    """

    def __init__(
        self,
        request: Request,
        cancel: Callable[[Ticket], None],
        timeout: float = 0.0,
        waited: float = 0.0,
    ) -> None:
        """`cancel` has the request ended soon. `timeout` is in seconds, 0 for none, of which
        `waited` have passed before the request was made."""
        self.request, self.waited, self._cancel = request, waited, cancel
        self._pieces: list[Piece] = []
        self._ended = self._given_up = self._expired = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        left = timeout - waited
        self._timer = self._loop.call_later(left, self._expire) if timeout else None

    def __aiter__(self) -> Ticket:
        return self

    async def __anext__(self) -> list[Piece]:
        while not self._pieces:
            if self._ended or (self._given_up and not self._expired):
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter
        pieces, self._pieces = self._pieces, []
        return pieces

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    @property
    def ended(self) -> bool:
        """Whether no more pieces come."""
        return self._ended

    @property
    def error(self) -> Exception | None:
        """What it failed with, at its end."""
        return self._error

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended, as the client is told; None before that."""
        if not self._ended:
            return None
        return "length" if self.timed_out else self.request.finish_reason

    @property
    def timed_out(self) -> bool:
        """Whether it ended because its time was up."""
        return self._expired and self._ended and self.request.finish_reason == "cancelled"

    @property
    def tail(self) -> str:
        """Text that no piece shows: what was held back (what might have become a stop string)
        when the time was up."""
        return self.request.text[-1] if self.timed_out and self.request.text else ""

    def completion(self) -> Completion:
        """The whole result, at the end; raises what the request failed with."""
        assert self._ended, "a ticket's completion is asked for before its end"
        if self._error is not None:
            raise self._error
        done, reason = self.request.completion(), self.finish_reason
        assert reason is not None
        return done if done.finish_reason == reason else replace(done, finish_reason=reason)

    async def finish(self) -> Completion:
        """Wait to the end; the whole result."""
        async for _ in self:
            pass
        return self.completion()

    def cancel(self) -> None:
        """Give up, from any thread and as often as one likes.

        Whoever waits is told at once; the blocks are free before the next step.
        """
        if not (self._ended or self._given_up):
            self._given_up = True
            self._cancel(self)
            self._loop.call_soon_threadsafe(self._wake)

    def deliver(self, pieces: list[Piece]) -> None:
        """Take what a step has brought; on the event loop."""
        self._pieces += pieces
        self._wake()

    def end(self, error: ApiError | None = None) -> None:
        """No more comes, of a request that has finished, or is to end with `error`; on the loop."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._error = error or self.request.error or self._cut_off()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _cut_off(self) -> ApiError | None:
        if self.request.finish_reason != "cancelled":
            return None
        if self._expired:
            return None if self.request.generated else TimeLimit(self._timeout)
        return None if self._given_up else Stopped()

    def _expire(self) -> None:
        if not self._given_up:
            self._expired = True
            self.cancel()
