"""What a check found: passed, failed or skipped, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "fail", "skip"]
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `problems` holds every one, `found` the first few."""

    status: Status
    found: str
    problems: tuple[str, ...] = ()


def passed(found: str) -> Finding:
    """The check holds."""
    return Finding("pass", found)


def skipped(reason: str) -> Finding:
    """There was nothing to check it with."""
    return Finding("skip", reason)


def judged(problems: Sequence[str], found: str) -> Finding:
    """Passed with what was found, unless there are problems."""
    if not problems:
        return passed(found)
    text = "; ".join(problems[:_SHOWN])
    if len(problems) > _SHOWN:
        text += f"; and {len(problems) - _SHOWN} more"
    return Finding("fail", text, tuple(problems))


def first_line(error: Exception) -> str:
    """What an error says first; libraries go on for pages."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), repr(error))[:300]
