"""Clients' figures follow from when their tokens came."""

from __future__ import annotations

import json

import pytest

from ferrum.runtime.bench.serving.client import Answer
from ferrum.runtime.bench.serving.load import Load, _together

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def answer(*times: float) -> Answer:
    """A stream whose texts come at these times."""
    text = b"data: " + json.dumps({"choices": [{"text": "a"}]}).encode() + b"\n\n"
    end = times[-1] + 0.5
    return Answer("POST", 0.0, [(times[0], HEAD), *((t, text) for t in times)], end)


def test_prompts_are_the_same_in_every_run_and_others_in_every_round() -> None:
    load = Load(clients=3, prompt=40, tokens=2, vocabulary=100)
    assert load.prompts(1) == load.prompts(1)
    assert load.prompts(1) != load.prompts(2)
    assert [len(prompt) for prompt in load.prompts(1)] == [40] * 3
    assert {token for prompt in load.prompts(1) for token in prompt} <= set(range(100))
    body = load.asks(1)[0].body
    assert (body["prompt"], body["max_tokens"]) == (load.prompts(1)[0], 2)
    assert body["temperature"] == 0
    assert "top_k" not in body
    assert Load(3, 40, 2, 100, temperature=0.8).asks(1)[0].body["top_k"] == 40


def test_the_rate_of_all_together_leaves_out_when_some_were_not_served() -> None:
    early, late = answer(1, 2, 3, 4, 5), answer(3, 4, 5, 6, 7)
    assert _together([early, late], 5) == pytest.approx(4 / 2)
    # A token whose text came with the next one's counts all the same.
    assert _together([answer(1, 2, 3, 5), answer(1, 2, 3, 5)], 5) == pytest.approx(2 * 3.75 / 4)


def test_clients_that_never_met_have_no_such_rate() -> None:
    assert _together([answer(1, 2), answer(3, 4)], 2) is None
