"""A crowd's requests: drawn the same way again, of every kind, in the shares that are asked for."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from ferrum.runtime.bench.serving.traffic import CANCELLED, MALFORMED, Request, Traffic

COUNT = 4000


def requests(seed: int) -> list[Request]:
    traffic = Traffic(seed, longest_prompt=300, most_tokens=200)
    return [traffic.next() for _ in range(COUNT)]


def test_a_seed_s_requests_are_always_the_same_and_another_s_are_others() -> None:
    assert list(islice(requests(1), 50)) == list(islice(requests(1), 50))
    assert requests(1)[:50] != requests(2)[:50]


def test_kinds_have_their_shares() -> None:
    kinds = Counter(request.kind for request in requests(3))
    assert kinds["abandoned"] / COUNT == pytest.approx(CANCELLED, abs=0.03)
    assert kinds["malformed"] / COUNT == pytest.approx(MALFORMED, abs=0.02)


def test_lengths_reach_from_one_to_the_most() -> None:
    lengths = [r.ask.body["max_tokens"] for r in requests(4) if r.kind == "whole"]
    assert min(lengths) == 1
    assert 150 < max(lengths) <= 200
    # Half of them are no longer than the square root of the most.
    assert sorted(lengths)[len(lengths) // 2] < 30


def test_malformed_requests_say_how_they_are_to_be_refused() -> None:
    found = {(r.status, r.param) for r in requests(5) if r.kind == "malformed"}
    assert {status for status, _ in found} == {400, 404, 405, 413, 415}
    assert {"prompt", "temperature", "max_tokens", "messages", None} <= {p for _, p in found}


def test_the_abandoned_are_left_before_or_in_their_answer() -> None:
    asks = [r.ask for r in requests(6) if r.kind == "abandoned"]
    assert any(ask.enough for ask in asks)
    assert any(ask.patience for ask in asks)
    assert all((ask.enough is None) != (ask.patience is None) for ask in asks)
