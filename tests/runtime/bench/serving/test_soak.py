"""What came of a request is told in a word, and memory that grows from one that does not."""

from __future__ import annotations

import json

import pytest

from ferrum.runtime.bench.memory import Memory
from ferrum.runtime.bench.serving.client import Answer, Ask
from ferrum.runtime.bench.serving.soak import Soak, growth, judge
from ferrum.runtime.bench.serving.traffic import Request

STREAM = Request("whole", Ask("/v1/completions", {"stream": True}))
PLAIN = Request("whole", Ask("/v1/completions", {}))
WRONG = Request("malformed", Ask("/v1/completions", {}), 400, "top_p")


def answer(status: int, body: bytes, **more: object) -> Answer:
    length = len(body) + ("broken" in more)
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n".encode()
    found = Answer("POST", 0.0, [(0.1, head + body)], 0.2)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def stream(*values: object) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(value).encode() for value in values)


def error(param: str | None) -> bytes:
    return json.dumps({"error": {"message": "m", "param": param}}).encode()


USAGE = {"usage": {"completion_tokens": 3}}


@pytest.mark.parametrize(
    ("request_", "came", "outcome"),
    [
        (PLAIN, answer(200, json.dumps(USAGE).encode()), "answered"),
        (PLAIN, answer(200, b"{}"), "unexpected"),
        (PLAIN, answer(500, error(None)), "unexpected"),
        (PLAIN, answer(200, b"", broken="ConnectionResetError"), "unexpected"),
        (PLAIN, answer(200, b"", given_up=True), "abandoned"),
        (STREAM, answer(200, stream(USAGE) + b"data: [DONE]\n\n"), "answered"),
        (STREAM, answer(200, stream(USAGE)), "unexpected"),
        (STREAM, answer(200, stream({"error": {}}) + b"data: [DONE]\n\n"), "unexpected"),
        (WRONG, answer(400, error("top_p")), "refused (400)"),
        (WRONG, answer(400, error("top_k")), "unexpected"),
        (WRONG, answer(200, json.dumps(USAGE).encode()), "unexpected"),
    ],
)
def test_every_answer_is_judged(request_: Request, came: Answer, outcome: str) -> None:
    found, why = judge(request_, came)
    assert found == outcome
    assert bool(why) == (outcome == "unexpected")


def test_growth_is_that_of_the_second_half() -> None:
    rising_first = [(float(t), 100 + min(t, 50)) for t in range(101)]
    assert growth(rising_first) == pytest.approx(0)
    always = [(float(t), 1000 + 2 * t) for t in range(101)]
    assert growth(always) == pytest.approx(100 / 1150)
    falling = [(float(t), 1000 - 2 * t) for t in range(101)]
    assert growth(falling) == pytest.approx(-100 / 850)
    up_and_down = [(float(t), 100 + 10 * (t % 2)) for t in range(101)]
    assert abs(growth(up_and_down)) < 0.005
    assert growth([(0.0, 100)]) == 0


def test_a_block_that_is_kept_is_seen() -> None:
    end = {"ferrum_requests_running": 0.0, "ferrum_requests_waiting": 0.0,
           "ferrum_blocks_used": 0.0, "ferrum_blocks_free": 8.0, "ferrum_blocks": 8.0}  # fmt: skip
    assert Soak(1.0, 1, memory=[(0.0, Memory(1, 1))], end=end).all_blocks_back
    for name in ("ferrum_requests_running", "ferrum_blocks_used"):
        assert not Soak(1.0, 1, end=end | {name: 1.0}).all_blocks_back
    assert not Soak(1.0, 1, end=end | {"ferrum_blocks_free": 7.0}).all_blocks_back
