"""A report as a picture: speeds with their spreads, side by side, as SVG or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ferrum.commands.report_file import new_report
from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.report import Report, Row

SUFFIXES = (".svg", ".png")
_LIMITS = {"prefill": "int8 products at their peak", "decode": "all of the memory's rate"}
_COLORS = ("#0072b2", "#e69f00", "#999999")  # told apart without red and green


def check_chart(path: Path) -> None:
    """BenchError for a name that no chart can have, or where there is nothing to draw with."""
    if path.suffix not in SUFFIXES:
        raise BenchError(f"[--chart] {path} -> a name that ends in {' or '.join(SUFFIXES)}")
    _figure_type()


def write_chart(report: Report, path: Path) -> None:
    """One panel per kind of work; a group of bars per case, a bar per side."""
    kinds = [k for k in ("prefill", "decode") if any(row.case.kind == k for row in report.rows)]
    figure = _figure_type()(figsize=(6.5 * len(kinds), 4.5), layout="constrained")
    machine = report.machine
    figure.suptitle(
        f"{report.model['name']}, {report.model['layers']} layers, on "
        f"{machine.gpu or machine.cpu}, "
        f"{machine.date[:10]}"
    )
    for index, kind in enumerate(kinds):
        axes = figure.add_subplot(1, len(kinds), index + 1)
        _panel(axes, kind, [row for row in report.rows if row.case.kind == kind])
    with new_report(path) as file:
        figure.savefig(file, format=path.suffix[1:])


def _panel(axes: Any, kind: str, rows: Sequence[Row]) -> None:
    cases = list(dict.fromkeys(row.case for row in rows))
    sides = list(dict.fromkeys(row.side for row in rows))
    width = 0.8 / len(sides)
    for place, side in enumerate(sides):
        own = [row for row in rows if row.side == side]
        speeds = [row.tokens_per_second for row in own]
        axes.bar(
            [cases.index(row.case) + (place - (len(sides) - 1) / 2) * width for row in own],
            [speed.median for speed in speeds],
            width,
            yerr=[
                [speed.median - speed.lowest for speed in speeds],
                [speed.highest - speed.median for speed in speeds],
            ],
            capsize=3,
            label=side,
            color=_COLORS[place % len(_COLORS)],
        )
    for number, case in enumerate(cases):
        first = next(row for row in rows if row.case == case)
        if first.fraction is None:
            continue
        # Where the side's own rate would reach the limit; the same for all, but for the memory's
        # moods, so the first side's is drawn.
        most = first.tokens_per_second.median / first.fraction.median
        label = _LIMITS[first.case.kind] if number == 0 else None
        axes.hlines(most, number - 0.4, number + 0.4, colors="black", linestyles=":", label=label)
    several = len({case.threads for case in cases}) > 1
    labels = [case.label + (f"\n{case.threads} threads" if several else "") for case in cases]
    axes.set_xticks(range(len(cases)), labels, rotation=20 if len(cases) > 3 else 0)
    axes.set_ylabel("tokens per second")
    axes.set_title(f"{kind}: median, lowest to highest")
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper left", ncols=2)


def _figure_type() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchError(
            "[--chart] matplotlib is not installed -> pip install matplotlib"
        ) from None
    return Figure
