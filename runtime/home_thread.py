"""Work that belongs to one thread, whoever asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


class HomeThread:
    """Runs work in one thread: ONNX Runtime keeps captured CUDA graphs for each thread apart.

    That is the first thread that comes, at no cost, until another one does: from then on it is a
    thread of its own, for which graphs are captured once more.
    """

    def __init__(self) -> None:
        # Not its number, which the next thread has when this one has ended.
        self._first: threading.Thread | None = None
        self._own: ThreadPoolExecutor | None = None

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. For one caller at a time.

        Work is over when this returns: a caller who is interrupted waits until it is.
        """
        if self._own is None:
            if self._first is None:
                self._first = threading.current_thread()
            if self._first is threading.current_thread():
                return work()
            self._own = ThreadPoolExecutor(1, "ferrum-cuda")
        future = self._own.submit(work)
        try:
            return future.result()
        except BaseException:
            if not future.cancel():
                wait([future])
            raise
