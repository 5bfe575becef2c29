"""A lock that a thread which comes again and again cannot keep from the others."""

from __future__ import annotations

import threading


class FairLock:
    """A reentrant lock, for `with` alone. Whoever waits comes next, or soon after.

    A plain one goes to the thread that runs, which is the one that has just given it back: a loop
    that takes it for each of its steps would have it for all of them.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._door = threading.Lock()  # held by the one that waits for the other

    def __enter__(self) -> None:
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock.acquire()
            return
        try:
            with self._door:
                self._lock.acquire()
        except BaseException:  # Ctrl-C, perhaps when it was ours already
            if self._lock._is_owned():  # type: ignore[attr-defined]
                self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()
