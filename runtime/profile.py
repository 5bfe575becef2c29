"""Where a step's time goes: the library's totals per stage and the time spent in Python."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

# In the order of a step; `onnxruntime` is what the graph takes beyond the library's stages.
STAGES = (
    "embed", "norm", "qkv", "attention", "o", "router", "route", "gate_up", "silu", "down",
    "combine", "lm_head", "other", "onnxruntime", "sample", "python",
)  # fmt: skip


@dataclass(frozen=True)
class Span:
    """Something that took a while, in nanoseconds of time.perf_counter_ns."""

    name: str
    start: int
    end: int


@dataclass
class Clock:
    """Time per kind of work in steps: `step` holds `graph` and `sample`, the rest is Python's."""

    keep_spans: bool = False
    totals: dict[str, int] = field(default_factory=dict)  # nanoseconds
    steps: int = 0
    spans: list[Span] = field(default_factory=list)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of a block to `name`."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            end = time.perf_counter_ns()
            self.totals[name] = self.totals.get(name, 0) + end - start
            if self.keep_spans:
                self.spans.append(Span(name, start, end))

    def clear(self) -> None:
        """Begin anew."""
        self.totals.clear()
        self.spans.clear()
        self.steps = 0

    def seconds(self, name: str) -> float:
        """What blocks of that name took so far."""
        return self.totals.get(name, 0) * 1e-9


@dataclass(frozen=True)
class Stage:
    """One row of a profile."""

    name: str
    calls: int
    seconds: float
    share: float  # of all steps' time


def stages(clock: Clock, library: Mapping[str, Mapping[str, float]]) -> list[Stage]:
    """The profile of a clock's steps; `library` is what ferrum.custom_ops.read_profile gives.

    The rows add up to the time of the steps. Stages that were never entered are left out.
    """
    seconds = {name: row["seconds"] for name, row in library.items()}
    calls = {name: int(row["calls"]) for name, row in library.items()}
    seconds["onnxruntime"] = max(0.0, clock.seconds("graph") - sum(seconds.values()))
    seconds["sample"] = clock.seconds("sample")
    seconds["python"] = max(
        0.0, clock.seconds("step") - clock.seconds("graph") - clock.seconds("sample")
    )
    calls |= dict.fromkeys(("onnxruntime", "sample", "python"), clock.steps)
    whole = sum(seconds.values()) or 1.0
    order = {name: i for i, name in enumerate(STAGES)}
    names = sorted(seconds, key=lambda name: order.get(name, len(STAGES)))
    return [
        Stage(name, calls[name], seconds[name], seconds[name] / whole)
        for name in names
        if calls[name]
    ]


def table(rows: list[Stage], steps: int) -> str:
    """The profile as text, one line a stage, in milliseconds."""
    lines = [f"{'stage':<12} {'calls':>8} {'total ms':>10} {'ms/step':>9} {'share':>7}"]
    for row in rows:
        lines.append(
            f"{row.name:<12} {row.calls:>8,} {row.seconds * 1e3:>10.2f} "
            f"{row.seconds * 1e3 / max(steps, 1):>9.3f} {row.share:>7.1%}"
        )
    total = sum(row.seconds for row in rows)
    lines.append(f"{'all':<12} {steps:>8,} {total * 1e3:>10.2f} "
                 f"{total * 1e3 / max(steps, 1):>9.3f} {1:>7.1%}")  # fmt: skip
    return "\n".join(lines)
