"""A completion as it comes, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator

from ferrum.runtime.engine import Engine
from ferrum.runtime.fair_lock import FairLock
from ferrum.runtime.request import Completion, Piece, Request


class Stream(Iterator[Piece]):
    """Iterates over a request's pieces; a step runs whenever none is ready.

    Several streams of one model may be read in turns or from several threads: each step advances
    all of them. One that is no longer wanted should be closed (or left to the garbage collector),
    so that it takes no further part.
    """

    def __init__(self, engine: Engine, request: Request, lock: FairLock) -> None:
        self._engine, self._request, self._lock = engine, request, lock

    def __next__(self) -> Piece:
        with self._lock:
            while not self._request.pieces and self._request.finish_reason is None:
                self._engine.step()
            if self._request.pieces:
                return self._request.pieces.popleft()
        if self._request.error is not None:
            raise self._request.error
        raise StopIteration

    def finish(self) -> Completion:
        """Run to the end; the whole completion, pieces already taken included."""
        while self._request.finish_reason is None:
            with self._lock:  # others come in between steps, and are in the next one
                if self._request.finish_reason is None:
                    self._engine.step()
        return self._request.completion()

    def close(self) -> None:
        """Stop here, if it has not ended, and give its blocks back."""
        with self._lock:
            self._engine.cancel(self._request)

    @property
    def completion(self) -> Completion:
        """What came of it; RuntimeError while it is still going on."""
        if self._request.finish_reason is None:
            raise RuntimeError("[stream] is not at its end -> read on, finish() or close() it")
        return self._request.completion()

    def __del__(self) -> None:
        # A collector may run in the midst of a step on this very thread, where the lock, being
        # reentrant, would not protect the scheduler: the engine drops it before its next step.
        self._engine.abandon(self._request)
