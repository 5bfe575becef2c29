"""Work that belongs to one thread, whoever asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class HomeThread:
    """Runs work in one thread: ONNX Runtime keeps captured CUDA graphs for each thread apart.

    That is the first thread that comes, at no cost, until another one does: from then on it is a
    thread of its own, for which graphs are captured once more.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._own: ThreadPoolExecutor | None = None

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. For one caller at a time."""
        if self._own is None:
            if self._first is None:
                self._first = threading.get_ident()
            if self._first == threading.get_ident():
                return work()
            self._own = ThreadPoolExecutor(1, "ferrum-cuda")
        return self._own.submit(work).result()
