"""Measurements to figures: medians and spreads, fractions of what the machine gives, ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.first_token import FirstToken
from ferrum.runtime.bench.machine import Machine
from ferrum.runtime.bench.roofline import Limit
from ferrum.runtime.bench.run import Measured, Measurements
from ferrum.runtime.bench.sides import FERRUM
from ferrum.runtime.bench.work import Work


@dataclass(frozen=True)
class Spread:
    """The middle of some figures, the least and the greatest of them."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one figure or more."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One side in one case.

    decode: `rate` is bytes per second of weights and caches, `limit` those that the memory gives.
    prefill: `rate` is int8 multiply-adds per second, `limit` those that the machine can do. Limits
    are of the same moments; `fraction` is one by the other, repetition by repetition. On a GPU
    there are none, and multiply-adds are those with quantized weights.
    """

    case: Case
    side: str
    seconds: tuple[float, ...]
    tokens_per_second: Spread
    rate: Spread
    limit: Spread | None
    fraction: Spread | None
    limits: tuple[float, ...]  # the limit beside each repetition
    foreign_cpu: tuple[float, ...]  # share of CPU time that other programs took meanwhile
    disturbed: int  # repetitions in which that was too much
    again: int  # repetitions left out for that, as their round was run again
    anonymous: int  # peak bytes of the process's own memory
    beside_caches: int  # of these, what is not KV caches
    file: int  # peak bytes of mapped files
    stages: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast ferrum is as the better of the others, of the rounds' ratios."""

    what: str
    threads: int
    to: str
    ratio: Spread


@dataclass(frozen=True)
class Report:
    """All that a run found; `as_dict` is what --json writes."""

    machine: Machine
    command: str
    model: Mapping[str, Any]
    limits: tuple[Limit, ...]
    rows: tuple[Row, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    first_token: tuple[FirstToken, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain values. Times in seconds, rates per second, memory in bytes."""
        return asdict(self)


def rows(measurements: Measurements, work: Work, cache_bytes: Mapping[str, int]) -> list[Row]:
    """A row for each side in each case, a case's rows together.

    `cache_bytes` is what a token takes in a side's caches.
    """
    order = list(dict.fromkeys(case for case, _ in measurements))
    return [
        _row(case, side, measured, work, cache_bytes[side])
        for (case, side), measured in sorted(
            measurements.items(), key=lambda item: order.index(item[0][0])
        )
    ]


def ratios(found: Sequence[Row]) -> list[Ratio]:
    """ferrum's speed over the better of the other sides, by their medians, case by case."""
    result = []
    for mine in found:
        others = [row for row in found if row.case == mine.case and row.side != FERRUM]
        if mine.side == FERRUM and others:
            better = max(others, key=lambda row: row.tokens_per_second.median)
            spread = _times(mine.seconds, better.seconds)
            result.append(Ratio(mine.case.label, mine.case.threads, better.side, spread))
    return result


def first_token_ratios(found: Sequence[FirstToken], threads: int) -> list[Ratio]:
    """The same of the time to the first token; empty where ferrum was alone."""
    mine = [side for side in found if side.side == FERRUM]
    others = [side for side in found if side.side != FERRUM]
    if not mine or not others:
        return []
    better = min(others, key=lambda side: median(side.token))
    return [Ratio("first token", threads, better.side, _times(mine[0].token, better.token))]


def _times(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Their seconds over ours, round by round."""
    return Spread.of([other / own for own, other in zip(ours, theirs, strict=True)])


def _row(case: Case, side: str, measured: Measured, work: Work, per_token: int) -> Row:
    seconds = [repetition.seconds for repetition in measured.repetitions]
    most = [r.limit for r in measured.repetitions if r.limit is not None]
    if case.kind == "decode":
        amount = work.decode_bytes(case) * case.tokens
    else:
        amount, _ = work.prefill_macs(case)
    rate = [amount / taken for taken in seconds]
    caches = measured.cache_tokens * per_token
    return Row(
        case=case,
        side=side,
        seconds=tuple(seconds),
        tokens_per_second=Spread.of([case.all_tokens / taken for taken in seconds]),
        rate=Spread.of(rate),
        limit=Spread.of(most) if most else None,
        fraction=_fraction(rate, most) if most else None,
        limits=tuple(most),
        foreign_cpu=tuple(repetition.foreign_cpu for repetition in measured.repetitions),
        disturbed=sum(repetition.disturbed for repetition in measured.repetitions),
        again=measured.again,
        anonymous=measured.memory.anonymous,
        beside_caches=max(0, measured.memory.anonymous - caches),
        file=measured.memory.file,
        stages=tuple(measured.stages or ()),
    )


def _fraction(rates: Sequence[float], limits: Sequence[float]) -> Spread:
    return Spread.of([rate / limit for rate, limit in zip(rates, limits, strict=True)])
