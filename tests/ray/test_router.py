"""Which replica gets a request."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.serve.ray.router import in_order

KEYS = [f"key {index}" for index in range(1000)]


def first(key: str, loads: dict[str, int], places: int = 16) -> str:
    return in_order(key, loads, places)[0]


def test_a_key_has_one_replica_and_keys_are_spread() -> None:
    loads = dict.fromkeys("abcd", 0)
    count = Counter(first(key, loads) for key in KEYS)
    assert count == Counter(first(key, dict(reversed(loads.items()))) for key in KEYS)
    assert min(count.values()) > 200


def test_a_replica_that_goes_moves_only_its_own_keys() -> None:
    before = {key: first(key, dict.fromkeys("abcd", 0)) for key in KEYS}
    after = {key: first(key, dict.fromkeys("abc", 0)) for key in KEYS}
    assert {before[key] for key in KEYS if before[key] != after[key]} == {"d"}


def test_a_replica_keeps_its_keys_while_it_has_a_free_place() -> None:
    for key in KEYS[:50]:
        owner = first(key, {"a": 0, "b": 0}, places=4)
        assert first(key, {"a": 0, "b": 0, owner: 3}, places=4) == owner
        assert first(key, {"a": 0, "b": 0, owner: 4}, places=4) != owner


def test_replicas_that_are_equally_overrun_keep_theirs() -> None:
    for key in KEYS[:50]:
        owner = first(key, {"a": 0, "b": 0}, places=4)
        assert first(key, {"a": 20, "b": 20}, places=4) == owner
        assert first(key, {"a": 10, "b": 10, owner: 40}, places=4) != owner


def test_a_key_that_must_move_goes_to_one_other_replica() -> None:
    loads = dict.fromkeys("abcd", 0)
    for key in KEYS[:50]:
        owner, second = in_order(key, loads, 4)[:2]
        assert [first(key, {**loads, owner: load}, 4) for load in (5, 9, 50)] == [second] * 3


@given(st.text(), st.dictionaries(st.text(), st.integers(0, 300)), st.integers(1, 64))
def test_every_replica_is_there_once_and_the_first_is_not_the_most_loaded(
    key: str, loads: dict[str, int], places: int
) -> None:
    order = in_order(key, loads, places)
    assert sorted(order) == sorted(loads)
    if order:
        mean = sum(loads.values()) / len(loads)
        assert loads[order[0]] <= max(places, 1.25 * mean + 1)
