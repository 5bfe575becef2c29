"""The table in a terminal and elsewhere, and files that machines read."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

from ferrum.builder.check.finding import judged, passed, skipped
from ferrum.builder.check.report import print_table, summary, write_junit
from ferrum.builder.check.run import Outcome

OUTCOMES = [
    Outcome("wiring", passed("39 nodes"), 0.5),
    Outcome("config", judged(["rope \x00 <base>", "b", "c", "d", "e"], ""), 0.25),
    Outcome("weight bytes", skipped("no --gguf"), 0.0),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_one_plain_line_a_check() -> None:
    stream = io.StringIO()
    print_table(OUTCOMES, "m.onnx", stream)
    lines = stream.getvalue().splitlines()
    assert [line[:4] for line in lines[1:-1]] == ["pass", "fail", "skip"]
    assert lines[-1] == summary(OUTCOMES) == "3 checks: 1 passed, 1 failed, 1 skipped"


def test_a_terminal_gets_a_table() -> None:
    stream = Terminal()
    print_table(OUTCOMES, "m.onnx", stream)
    assert "┃" in stream.getvalue()
    assert "39 nodes" in stream.getvalue()


def test_only_the_first_problems_are_in_the_line_and_all_in_the_finding() -> None:
    finding = OUTCOMES[1].finding
    assert finding.found.endswith("b; c; and 2 more")
    assert len(finding.problems) == 5


def test_junit_survives_characters_that_xml_cannot_hold(tmp_path: Path) -> None:
    write_junit(tmp_path / "c.xml", OUTCOMES, "m.onnx")
    failure = ElementTree.parse(tmp_path / "c.xml").getroot()[0][1][0]
    assert failure.get("message", "").startswith("rope ? <base>; b")
    assert (failure.text or "").count("\n") == 4
