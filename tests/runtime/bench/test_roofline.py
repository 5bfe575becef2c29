"""The machine's limits, in a few milliseconds: all of them, positive."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrum.custom_ops.library import describe
from ferrum.custom_ops.measure import ProductRate
from ferrum.runtime.bench import roofline
from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.machine import last_level_cache
from ferrum.runtime.bench.roofline import Limits, memory_limits, product_limits


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_SECONDS", 0.002)


def test_memory_is_read_from_more_than_the_caches_hold() -> None:
    limits = Limits()
    assert limits._data.nbytes >= 2 * last_level_cache()
    assert limits.read(1, 0.002) > 0


def test_a_decode_is_bound_by_memory_and_a_prefill_by_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roofline, "read_rate", lambda data, *, threads, seconds: threads * 10.0)
    monkeypatch.setattr(
        roofline,
        "product_rate",
        lambda kind, isa, *, threads, seconds: ProductRate(f"{kind} {isa}", threads * 7.0),
    )
    limits = Limits()
    assert limits.now(Case("decode", 1, 1, 1, 2)) == 20
    assert limits.now(Case("prefill", 1, 1, 0, 3)) == 21


def test_memory_is_read_as_pages_of_its_own_and_of_the_file(sample: Path) -> None:
    limits = Limits()
    (own,) = memory_limits(limits, 2, None)
    own, mapped = memory_limits(limits, 2, sample)
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
