"""Signals that end a build, as exceptions that can be held back while files move."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP. While held they wait; released, they raise."""

    def __init__(self) -> None:
        self._held = True
        self._pending: list[int] = []
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals over from Python's defaults and from the application."""
        # Only the main thread receives signals. Those that are ignored stay so (nohup).
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            current = signal.getsignal(number)
            if callable(current) or current is signal.SIG_DFL:
                self._previous[number] = current
                signal.signal(number, self._take)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """From here on signals wait."""
        self._held = True

    def release(self) -> None:
        """From here on signals raise, at once if one has waited."""
        self._held = False
        if self._pending:
            self._take(self._pending.pop(0), None)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._pending.append(number)
            return
        if callable(self._previous[number]):  # Python's own for Ctrl-C, or the application's
            self._previous[number](number, frame)
        else:
            raise SystemExit(128 + number)


@contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """SIGTERM and SIGHUP end the block as an exception, as Ctrl-C does, so that it cleans up."""
    signals = Interrupts()
    try:
        signals.install()
        signals.release()
        yield signals
    finally:
        signals.hold()
        signals.restore()
        signals.release()
