"""Ctrl-C waits while books are put right."""

from __future__ import annotations

import signal
import threading

# Both without signal's enums, whose making takes longer than all else here.
from _signal import getsignal  # type: ignore[import-not-found]
from _signal import signal as handle
from types import FrameType
from typing import Any


class _CtrlCWaits:
    """As `with` alone, in any depth and any thread: a KeyboardInterrupt comes at the end.

    Else it would come between any two lines, and one that takes a block off a list and the next
    that notes whose it is belong together. A second Ctrl-C comes at once, for what is held may
    take long: a large prompt, an application's mask. What SIGINT does is as the application wants.
    """

    def __init__(self) -> None:
        self._depth = 0  # of the main thread, the only one that Python's signals come to
        self._came = False
        self._before: Any = None  # what SIGINT did outside

    def __enter__(self) -> None:
        if threading.get_ident() != _MAIN:
            return
        if not self._depth:
            self._came = False
            self._before = getsignal(signal.SIGINT)
            if callable(self._before):  # else it is ignored, or not Python's
                handle(signal.SIGINT, self._take)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        if threading.get_ident() != _MAIN:
            return
        self._depth -= 1
        if self._depth or not callable(self._before):
            return
        handle(signal.SIGINT, self._before)
        if self._came:
            self._before(signal.SIGINT, None)

    def heed(self) -> None:
        """Let one that waits come here, where books are right: for what takes long."""
        if threading.get_ident() == _MAIN and self._came:
            self._came = False
            self._before(signal.SIGINT, None)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._came = not self._came
        if not self._came:
            self._before(number, frame)


_MAIN = threading.main_thread().ident
ctrl_c_waits = _CtrlCWaits()
