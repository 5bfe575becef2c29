"""A report as tables for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Literal, TextIO

from rich.console import Console
from rich.table import Table

from ferrum.runtime.bench.report import Report, Row, Spread

_WIDTH = 1000  # tables have room for so many columns, of which they take what they need
_PROFILES = 3  # side by side


class _Console(Console):
    """A reader that has gone is the caller's to note: there are reports yet to be written."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_report(report: Report, stream: TextIO | None = None) -> None:
    """The machine and its limits, what was measured, and how to read it."""
    stream = stream or sys.stdout
    console = _Console(file=stream, width=_WIDTH, highlight=False, markup=False, soft_wrap=True)
    machine = report.machine
    console.print(
        f"{machine.date}, {machine.cpu}, {machine.cores} cores, kernels {machine.isa}, "
        f"Linux {machine.kernel}"
    )
    commit = f" at {machine.commit}" if machine.commit else ""
    console.print(f"ferrum {machine.ferrum}{commit}, onnxruntime {machine.onnxruntime}")
    console.print(f"  {report.command}")
    if machine.gpu:
        console.print(f"on {machine.gpu}")
    if report.limits:
        _section(console, "the machine alone", _limits(report))
    if report.rows:
        _section(console, "speed: medians, lowest to highest in brackets", _speeds(report))
    if report.ratios:
        _section(console, "ferrum, times the better of the others, round by round", _ratios(report))
    if report.rows:
        _section(console, "memory at its peak, MB", _memory(report))
    profiled = [row for row in report.rows if row.stages]
    for start in range(0, len(profiled), _PROFILES):
        table = _stages(profiled[start : start + _PROFILES])
        _section(console, "where ferrum's time goes, ms of one repetition", table)
    if report.first_token:
        _section(console, "seconds since a process was started", _first_token(report))
    if report.notes:
        console.print()
    for note in report.notes:
        console.print(f"- {note}")


def _section(console: Console, heading: str, table: Table) -> None:
    console.print()
    console.print(heading, style="bold")
    console.print(table)


def _limits(report: Report) -> Table:
    table = _table("limit", "of", ">threads", ">median", ">")
    for limit in report.limits:
        unit = "GB/s" if limit.unit == "B/s" else "GMAC/s"
        spread = Spread.of([rate / 1e9 for rate in limit.rates])
        table.add_row(limit.what, limit.how, str(limit.threads), *_cells(spread, unit))
    return table


def _speeds(report: Report) -> Table:
    table = _table(
        "case", ">threads", "side", ">tokens/s", ">", ">rate", ">limit", ">fraction", ">"
    )
    for row, begins in _by_case(report.rows):
        unit = "GB/s" if row.case.kind == "decode" else "GMAC/s"
        # A prompt through matrices of floats has no int8 products to speak of.
        counts = row.rate.median > 0
        fraction = row.fraction if counts else None
        table.add_row(
            *begins,
            row.side,
            *_cells(row.tokens_per_second),
            f"{_number(row.rate.median / 1e9)} {unit}" if counts else "",
            f"{_number(row.limit.median / 1e9)} {unit}" if counts and row.limit else "",
            *(_cells(fraction, show="{:.0%}".format) if fraction else ("", "")),
        )
    return table


def _ratios(report: Report) -> Table:
    table = _table("case", ">threads", ">ratio", ">", "the better")
    for ratio in report.ratios:
        cells = _cells(ratio.ratio, show="{:.2f}".format)
        table.add_row(ratio.what, str(ratio.threads), *cells, ratio.to)
    return table


def _memory(report: Report) -> Table:
    table = _table("case", ">threads", "side", ">anonymous", ">beside the caches", ">mapped file")
    for row, begins in _by_case(report.rows):
        figures = (f"{size / 1e6:,.0f}" for size in (row.anonymous, row.beside_caches, row.file))
        table.add_row(*begins, row.side, *figures)
    return table


def _stages(profiled: Sequence[Row]) -> Table:
    """A line per stage, and for each case its time and share."""
    several = len({row.case.threads for row in profiled}) > 1
    heads = [
        row.case.label + (f", {row.case.threads} threads" if several else "") for row in profiled
    ]
    table = _table("stage", *(head for name in heads for head in (f">{name}", ">")))
    for name in dict.fromkeys(stage["stage"] for row in profiled for stage in row.stages):
        cells = []
        for row in profiled:
            found = [stage for stage in row.stages if stage["stage"] == name]
            cells += [
                f"{found[0]['seconds'] * 1e3:,.2f}" if found else "",
                f"{found[0]['share']:.1%}" if found else "",
            ]
        table.add_row(name, *cells)
    return table


def _first_token(report: Report) -> Table:
    table = _table("side", ">imported", ">", ">loaded", ">", ">first token", ">")
    for side in report.first_token:
        moments = (Spread.of(each) for each in (side.imported, side.loaded, side.token))
        table.add_row(
            side.side, *(c for moment in moments for c in _cells(moment, show="{:.2f}".format))
        )
    return table


def _by_case(rows: Sequence[Row]) -> list[tuple[Row, tuple[str, str]]]:
    """Rows with their case's name and threads, which stand in its first row alone."""
    found, last = [], None
    for row in rows:
        new = row.case != last
        found.append((row, (row.case.label, str(row.case.threads)) if new else ("", "")))
        last = row.case
    return found


def _table(*columns: str) -> Table:
    """Columns whose name begins with > are set right."""
    table = Table(box=None, pad_edge=False)
    for name in columns:
        justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
        table.add_column(name.lstrip(">"), justify=justify, no_wrap=True)
    return table


def _cells(
    spread: Spread, unit: str = "", show: Callable[[float], str] | None = None
) -> tuple[str, str]:
    """The median, and the range in brackets."""
    show = show or _number
    return (
        f"{show(spread.median)} {unit}".rstrip(),
        f"({show(spread.lowest)} to {show(spread.highest)})",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
