"""A lock that a thread which comes again and again cannot keep from the others."""

from __future__ import annotations

import threading

from ferrum.runtime.ctrl_c import ctrl_c_waits

_PATIENCE = 0.1  # seconds


class FairLock:
    """A reentrant lock, for `with` alone. Whoever waits comes next, or soon after.

    A plain one goes to the thread that runs, which is the one that has just given it back: a loop
    that takes it for each of its steps would have it for all of them.

    While a thread has it, Ctrl-C waits; waiting for it ends with Ctrl-C.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._door = threading.Lock()  # held by the one that waits for the other

    def __enter__(self) -> None:
        ctrl_c_waits.__enter__()
        try:
            if self._lock._is_owned():  # type: ignore[attr-defined]
                self._lock.acquire()
            else:
                self._wait()
        except BaseException:
            ctrl_c_waits.__exit__()
            raise

    def _wait(self) -> None:
        _take(self._door)
        try:
            _take(self._lock)
        finally:
            self._door.release()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        ctrl_c_waits.__exit__()


def _take(lock: threading.Lock | threading.RLock) -> None:
    """Wait for a lock, and look for Ctrl-C meanwhile."""
    while not lock.acquire(timeout=_PATIENCE):
        ctrl_c_waits.heed()
