"""Figures follow from measurements by the arithmetic that the report states."""

from __future__ import annotations

import json

import pytest
from made_up_measurements import DECODE, LIMITS, PREFILL, WORK, measured

from ferrum.runtime.bench.first_token import FirstToken
from ferrum.runtime.bench.machine import machine
from ferrum.runtime.bench.report import (
    Report,
    Spread,
    first_token_ratios,
    ratios,
    rows,
)

CACHES = {"ferrum": 10, "in place": 10, "repack": 10}


def test_a_spread_is_median_lowest_and_highest() -> None:
    assert Spread.of([5, 1, 3]) == Spread(3, 1, 5)
    assert Spread.of([4, 1, 2, 9]) == Spread(3, 1, 9)
    assert Spread.of([7]) == Spread(7, 7, 7)


def test_a_decode_is_judged_by_the_memory_beside_each_repetition() -> None:
    found = measured([0.5, 1.0, 2.0], [(40e3, 60e3), (80e3, 80e3), (20e3, 40e3)])
    (row,) = rows({(DECODE, "ferrum"): found}, WORK, CACHES)
    assert row.tokens_per_second == Spread(10, 5, 20)
    a_step = 1000 + 8 * 100 + 10 * (20 + 5.5)  # 10 steps see 21 to 30 tokens
    assert WORK.decode_bytes(DECODE) == pytest.approx(a_step)
    assert row.rate.median == pytest.approx(10 * a_step / 1.0)
    assert row.rate.highest == pytest.approx(10 * a_step / 0.5)
    assert row.limits == (50e3, 80e3, 30e3)
    assert row.limit == Spread(50e3, 30e3, 80e3)
    by_hand = [10 * a_step / 0.5 / 50e3, 10 * a_step / 1.0 / 80e3, 10 * a_step / 2.0 / 30e3]
    assert row.fraction == pytest.approx(Spread.of(by_hand))  # type: ignore[comparison-overlap]


def test_a_prefill_is_judged_by_the_int8_products_beside_it() -> None:
    found = measured([0.1, 0.2, 0.4], [(9e5, 11e5)] * 3)
    (row,) = rows({(PREFILL, "ferrum"): found}, WORK, CACHES)
    assert row.tokens_per_second == Spread(500, 250, 1000)
    assert row.rate.median == pytest.approx((100 * 50 + 200) / 0.2)
    assert row.limit == Spread(1e6, 1e6, 1e6)
    assert row.fraction.median == pytest.approx(5200 / 0.2 / 1e6)


def test_memory_beside_the_caches_leaves_out_what_they_hold() -> None:
    (row,) = rows({(DECODE, "ferrum"): measured([1.0])}, WORK, CACHES)
    assert (row.anonymous, row.file) == (9000, 70000)
    assert row.beside_caches == 9000 - 32 * 10
    (row,) = rows({(DECODE, "ferrum"): measured([1.0])}, WORK, {"ferrum": 1000})
    assert row.beside_caches == 0  # caches that were never touched


def test_a_ratio_is_to_the_better_side_round_by_round() -> None:
    found = rows(
        {
            (PREFILL, "ferrum"): measured([1.0, 2.0, 4.0]),
            (PREFILL, "in place"): measured([3.0, 3.0, 3.0]),  # by the medians the better one
            (PREFILL, "repack"): measured([1.0, 9.0, 9.0]),  # though it won a round
            (DECODE, "ferrum"): measured([1.0, 1.0, 1.0]),
            (DECODE, "in place"): measured([0.9, 0.9, 0.9]),
            (DECODE, "repack"): measured([0.5, 0.8, 0.4]),
        },
        WORK,
        CACHES,
    )
    prefill, decode = ratios(found)
    assert (prefill.what, prefill.threads, prefill.to) == ("prefill 100", 2, "in place")
    assert prefill.ratio == Spread(1.5, 0.75, 3.0)
    assert (decode.what, decode.to) == ("decode 10 at 20", "repack")
    assert decode.ratio == Spread(0.5, 0.4, 0.8)


def test_a_case_s_rows_stand_together_however_they_were_measured() -> None:
    keys = [(PREFILL, "ferrum"), (DECODE, "ferrum"), (PREFILL, "repack"), (DECODE, "repack")]
    found = rows({key: measured([1.0]) for key in keys}, WORK, CACHES)
    assert [(row.case, row.side) for row in found] == [keys[0], keys[2], keys[1], keys[3]]


def test_without_another_side_there_is_no_ratio() -> None:
    assert ratios(rows({(PREFILL, "ferrum"): measured([1.0])}, WORK, CACHES)) == []
    alone = FirstToken("ferrum", (0.1,), (0.2,), (0.3,))
    assert first_token_ratios([alone], 2) == []


def test_the_first_token_s_ratio_is_to_the_faster_start() -> None:
    starts = [
        FirstToken("ferrum", (0.1, 0.1), (0.2, 0.2), (0.5, 1.0)),
        FirstToken("in place", (0.1, 0.1), (0.2, 0.2), (1.0, 1.5)),
        FirstToken("repack", (0.1, 0.1), (0.2, 0.2), (2.0, 3.0)),
    ]
    (ratio,) = first_token_ratios(starts, 2)
    assert (ratio.to, ratio.ratio) == ("in place", Spread(1.75, 1.5, 2.0))


def test_a_report_is_plain_values() -> None:
    found = rows({(PREFILL, "ferrum"): measured([1.0])}, WORK, CACHES)
    report = Report(machine(), "ferrum-bench x", {"name": "x"}, LIMITS, tuple(found))
    content = json.loads(json.dumps(report.as_dict()))
    assert content["rows"][0]["case"]["kind"] == "prefill"
    assert content["rows"][0]["tokens_per_second"] == {"median": 100, "lowest": 100, "highest": 100}
    assert content["machine"]["cores"] >= 1
