"""Outcomes as a table for people, JSON and JUnit for machines."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO
from xml.etree import ElementTree

from ferrum.builder.check.finding import Status
from ferrum.builder.check.run import Outcome
from ferrum.commands.report_file import write_report

_COLOURS = {"pass": "green", "fail": "bold red", "skip": "yellow"}


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line that counts them."""
    counts = Counter(outcome.finding.status for outcome in outcomes)
    names: dict[Status, str] = {"pass": "passed", "fail": "failed", "skip": "skipped"}
    parts = [f"{counts[status]} {names[status]}" for status in names if counts[status]]
    return f"{len(outcomes)} checks: {', '.join(parts)}"


def print_table(outcomes: Sequence[Outcome], title: str, stream: TextIO | None = None) -> None:
    """A table with colours on a terminal; elsewhere one line per check, never wrapped."""
    stream = stream or sys.stdout
    if not stream.isatty():
        print(title, file=stream)
        for outcome in outcomes:
            row = f"{outcome.finding.status:4}  {outcome.name:22}  {outcome.finding.found}"
            print(_one_line(row), file=stream)
        print(summary(outcomes), file=stream)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", caption=summary(outcomes))
    for column in ("check", "result", "found"):
        table.add_column(column, no_wrap=column != "found")
    for outcome in outcomes:
        status = outcome.finding.status
        table.add_row(
            outcome.name, Text(status, style=_COLOURS[status]), Text(outcome.finding.found)
        )
    Console(file=stream).print(table)


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))


def write_json(path: Path, outcomes: Sequence[Outcome], about: dict[str, Any]) -> None:
    """`about`, whether all passed, and every check with all that it found."""
    rows = [
        {
            "name": outcome.name,
            "status": outcome.finding.status,
            "found": outcome.finding.found,
            "problems": list(outcome.finding.problems),
            "seconds": round(outcome.seconds, 3),
        }
        for outcome in outcomes
    ]
    content = {**about, "passed": not failed(outcomes), "checks": rows}
    write_report(path, (json.dumps(content, indent=1) + "\n").encode())


def write_junit(path: Path, outcomes: Sequence[Outcome], model: str) -> None:
    """A test suite of JUnit's XML: a test case per check, named for the model."""
    model = _printable(model)
    counts = Counter(outcome.finding.status for outcome in outcomes)
    suite = ElementTree.Element(
        "testsuite",
        name="ferrum-check",
        tests=str(len(outcomes)),
        failures=str(counts["fail"]),
        errors="0",
        skipped=str(counts["skip"]),
        time=f"{sum(outcome.seconds for outcome in outcomes):.3f}",
    )
    for outcome in outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", classname=model, name=outcome.name, time=f"{outcome.seconds:.3f}"
        )
        found = _printable(outcome.finding.found)
        if outcome.finding.status == "fail":
            failure = ElementTree.SubElement(case, "failure", message=found)
            failure.text = _printable("\n".join(outcome.finding.problems))
        elif outcome.finding.status == "skip":
            ElementTree.SubElement(case, "skipped", message=found)
        else:
            ElementTree.SubElement(case, "system-out").text = found
    root = ElementTree.Element("testsuites")
    root.append(suite)
    write_report(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _printable(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c if c in "\n\t" or c.isprintable() else "?" for c in text)


def failed(outcomes: Sequence[Outcome]) -> bool:
    """Whether any check failed."""
    return any(outcome.finding.status == "fail" for outcome in outcomes)
