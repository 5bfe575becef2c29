"""Threads for what is done to a request before it is in line, so that long work waits for its like.

Work that is given up before its turn is never begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

_LARGE = 64 << 10  # bytes of a body; texts of that length take some 50 ms

T = TypeVar("T")


class Lanes:
    """Small bodies pass at once; large ones, and grammars, each wait for the one before."""

    def __init__(self) -> None:
        self._large = ThreadPoolExecutor(1, "ferrum-large")
        self._grammars = ThreadPoolExecutor(1, "ferrum-grammars")

    def read(self, prepare: Callable[[bytes], T], body: bytes) -> asyncio.Future[T]:
        """What `prepare` makes of a body."""
        return _on(self._large if len(body) > _LARGE else None, lambda: prepare(body))

    def compile(self, make: Callable[[], T]) -> asyncio.Future[T]:
        """What comes of the compilation of a grammar, which may take seconds."""
        return _on(self._grammars, make)

    def close(self) -> None:
        """Begin nothing more; what has begun ends by itself."""
        for lane in (self._large, self._grammars):
            lane.shutdown(wait=False, cancel_futures=True)


def _on(lane: Executor | None, work: Callable[[], T]) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(lane, work)
