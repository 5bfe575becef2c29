"""What keeps a benchmark from being run."""

from __future__ import annotations


class BenchError(ValueError):
    """A wish that cannot be measured; one line."""


class SideFailed(RuntimeError):
    """A side that broke, or whose process ended before its time; one line."""
