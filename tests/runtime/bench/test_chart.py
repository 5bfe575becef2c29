"""Charts are pictures that can be opened, of all cases and sides."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_up_measurements import DECODE, LIMITS, PREFILL, WORK, measured

from ferrum.runtime.bench.chart import check_chart, write_chart
from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.machine import machine
from ferrum.runtime.bench.report import Report, rows


@pytest.fixture
def report() -> Report:
    sides = ("ferrum", "llama.cpp in place", "llama.cpp repack")
    measurements = {
        (case, side): measured([0.5, 1.0, 2.0]) for case in (PREFILL, DECODE) for side in sides
    }
    found = rows(measurements, WORK, dict.fromkeys(sides, 10))
    model = {"name": "tinycode", "layers": 4}
    return Report(machine(), "ferrum-bench", model, LIMITS, tuple(found))


def test_an_svg_names_cases_and_sides(report: Report, tmp_path: Path) -> None:
    write_chart(report, tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    comments = (tmp_path / "chart.svg").read_text()  # text is drawn as paths, each with a comment
    for words in ("tinycode, 4 layers", "ferrum", "llama.cpp in place", "prefill 100",
                  "decode 10 at 20", "tokens per second"):  # fmt: skip
        assert f"<!-- {words}" in comments


def test_a_png_has_a_size(report: Report, tmp_path: Path) -> None:
    write_chart(report, tmp_path / "chart.png")
    content = (tmp_path / "chart.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert width > height > 300
    assert content[-8:-4] == b"IEND"


def test_a_chart_of_one_kind_has_one_panel(report: Report, tmp_path: Path) -> None:
    half = Report(report.machine, "", report.model, LIMITS, report.rows[:3])
    write_chart(half, tmp_path / "chart.svg")
    comments = (tmp_path / "chart.svg").read_text()
    assert comments.count("<!-- tokens per second") == 1
    assert "decode" not in comments


def test_a_chart_of_an_unknown_kind_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"c\.pdf -> a name that ends in \.svg or \.png"):
        check_chart(tmp_path / "c.pdf")


def test_without_matplotlib_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(BenchError, match=r"pip install matplotlib$"):
        check_chart(tmp_path / "c.svg")
