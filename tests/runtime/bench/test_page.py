"""The tables say what the report holds, whole, in a terminal or a file."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from made_up_measurements import DECODE, LIMITS, PREFILL, WORK, measured

from ferrum.runtime.bench.first_token import FirstToken
from ferrum.runtime.bench.machine import machine
from ferrum.runtime.bench.page import print_report
from ferrum.runtime.bench.report import Report, ratios, rows


@pytest.fixture
def report() -> Report:
    sides = {"ferrum": 0.5, "llama.cpp in place": 1.0, "llama.cpp repack": 2.0}
    found = rows(
        {(case, side): measured([s, s, s]) for case in (PREFILL, DECODE)
         for side, s in sides.items()},
        WORK, dict.fromkeys(sides, 10),
    )  # fmt: skip
    stages = ({"stage": "lm_head", "seconds": 0.0345, "share": 0.25},)
    found[0] = replace(found[0], stages=stages)
    starts = (FirstToken("ferrum", (0.1,), (0.2,), (0.75,)),)
    return Report(
        machine(), "ferrum-bench out.onnx --vs m.gguf", {"name": "m"}, LIMITS, tuple(found),
        tuple(ratios(found)), starts, ("a note",),
    )  # fmt: skip


def printed(report: Report) -> list[str]:
    stream = io.StringIO()
    print_report(report, stream)
    return stream.getvalue().splitlines()


def test_everything_is_shown_and_nothing_cut(report: Report) -> None:
    lines = printed(report)
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "…" not in text
    for words in (
        "ferrum-bench out.onnx --vs m.gguf", report.machine.cpu, "prefill 100",
        "decode 10 at 20", "llama.cpp in place", "llama.cpp repack", "lm_head", "34.50", "25.0%",
        "0.75", "- a note",
    ):  # fmt: skip
        assert words in text
    (ratio,) = [line for line in lines if line.startswith("prefill 100") and "2.00" in line]
    assert ratio.split() == ["prefill", "100", "2", "2.00", "(2.00", "to", "2.00)", "llama.cpp",
                             "in", "place"]  # fmt: skip


def test_a_case_is_named_once_for_all_its_sides(report: Report) -> None:
    lines = printed(report)
    start = lines.index("speed: medians, lowest to highest in brackets")
    speeds = lines[start + 2 : start + 8]
    assert [line.startswith(("prefill 100", "decode 10 at 20")) for line in speeds] == [
        True, False, False, True, False, False,
    ]  # fmt: skip
    assert speeds[0].split()[4:8] == ["200", "(200", "to", "200)"]


def test_a_report_of_the_machine_alone_has_its_limits_alone(report: Report) -> None:
    lines = printed(Report(report.machine, "ferrum-bench --roofline", {}, LIMITS))
    assert [line.split()[0] for line in lines[-4:]] == ["memory", "int8", "int8", "int8"]
    assert not any("speed" in line for line in lines)


def test_a_prompt_without_int8_products_has_no_rate_of_them(report: Report) -> None:
    floats = replace(WORK, int8_macs=0, head_is_int8=False)
    found = rows({(PREFILL, "ferrum"): measured([1.0])}, floats, {"ferrum": 10})
    lines = printed(replace(report, rows=tuple(found), ratios=(), first_token=()))
    (speed,) = [line for line in lines if line.startswith("prefill 100") and "(100 to" in line]
    assert "GMAC/s" not in speed
    assert "%" not in speed
