"""The machine's limits, in a few milliseconds: all of them, positive."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrum.custom_ops.library import describe
from ferrum.runtime.bench import roofline
from ferrum.runtime.bench.machine import last_level_cache
from ferrum.runtime.bench.roofline import Bandwidth, Limit, memory_limits, product_limits


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_SECONDS", 0.002)


def test_bandwidth_is_read_from_more_than_the_caches_hold() -> None:
    bandwidth = Bandwidth()
    assert bandwidth._data.nbytes >= 2 * last_level_cache()
    assert bandwidth.read(1, 0.002) > 0


def test_memory_is_read_as_pages_of_its_own_and_of_the_file(sample: Path) -> None:
    bandwidth = Bandwidth()
    (own,) = memory_limits(bandwidth, 2, None)
    own, mapped = memory_limits(bandwidth, 2, sample)
    assert (own.how, mapped.how) == ("anonymous", f"mapped {sample.name}")
    for limit in (own, mapped):
        assert (limit.unit, limit.threads) == ("B/s", 2)
        assert all(rate > 0 for rate in limit.rates)


def test_products_are_measured_for_every_instruction_set_best_first() -> None:
    found = product_limits(1)
    assert [(limit.what, limit.how.split(":")[0]) for limit in found] == [
        (f"{kind} products", isa) for isa in describe()["isas"] for kind in ("int8", "float32")
    ]
    assert all(min(limit.rates) > 0 for limit in found)


def test_a_limit_s_median_is_the_middle_one() -> None:
    assert Limit("x", "y", 1, "B/s", (5.0, 1.0, 3.0)).median == 3
