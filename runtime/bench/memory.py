"""A process's memory, its own and that of mapped files apart, and the peak of each."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Bytes in memory: `anonymous` is the process's own, `file` are pages of mapped files."""

    anonymous: int
    file: int


NOTHING = Memory(0, 0)


def memory_of(pid: int) -> Memory:
    """What a process has in memory now; OSError where it has ended, waited for or not."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    if "RssAnon" not in fields:
        raise ProcessLookupError(f"process {pid} has ended")
    read = {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}
    return Memory(read["RssAnon"], read["RssFile"])


class PeakMemory:
    """The most of each kind that a process was seen to have.

    with peak.watch():      # looks a hundred times a second, and when the block ends
        ...
    peak.look()             # once
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.peak = NOTHING

    def look(self) -> None:
        """Note what there is now."""
        now = memory_of(self._pid)
        self.peak = Memory(max(self.peak.anonymous, now.anonymous), max(self.peak.file, now.file))

    def watch(self) -> _Watch:
        """Look again and again while a block runs."""
        return _Watch(self)


class _Watch:
    def __init__(self, peak: PeakMemory) -> None:
        self._peak, self._ended = peak, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with suppress(OSError):  # the process has ended; whoever waits for it will say so
            while not self._ended.wait(0.01):
                self._peak.look()
            self._peak.look()  # at the end too: a short block may be over before the first look

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
