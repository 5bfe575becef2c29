"""How busy the machine was with programs that are no part of the benchmark."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class CpuLoad:
    """CPU time of all programs, and of this process and one other, since it was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._idle, self._busy, self._own = self._now()

    def foreign(self) -> float:
        """The share of the time of all CPUs that others took, 0 to 1; to a few hundredths."""
        idle, busy, own = self._now()
        idle, busy, own = idle - self._idle, busy - self._busy, own - self._own
        return min(1.0, max(0.0, busy - own) / max(idle + busy, 1 / _TICKS))

    def _now(self) -> tuple[float, float, float]:
        """Seconds: of all CPUs without and with work (time stolen by a host counts as work), and
        of the benchmark."""
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
        user, nice, system, idle, waiting, irq, softirq, stolen = (
            int(ticks) / _TICKS for ticks in first.split()[1:9]
        )
        # The name, which comes second, may hold spaces; it ends with the last parenthesis.
        stat = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        own = os.times()
        side = (int(stat[11]) + int(stat[12])) / _TICKS
        busy = user + nice + system + irq + softirq + stolen
        return idle + waiting, busy, own.user + own.system + side
