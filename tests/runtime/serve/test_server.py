"""ferrum-serve as a process: how it ends, and what becomes of clients that go."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from served import Served

Start = Callable[..., Served]
LONG = {"prompt": "import os", "max_tokens": 1000, "ignore_eos": True, "temperature": 0}
# In standard ONNX ops the sample has some 30 tokens per second: one of the long requests is under
# way for half a minute, however late a busy machine lets a test ask for something beside it.
SLOW = ("--kernels", "reference", "--threads", 1, "--max-sequences", 1)
TO_ITS_END = {**LONG, "max_tokens": 300}
SHORT = {"prompt": "import os", "max_tokens": 3, "ignore_eos": True}
COMPLETIONS = "/v1/completions"


@contextmanager
def streaming(served: Served, body: dict[str, Any]) -> Iterator[Iterator[str]]:
    """The lines of a streamed answer, of which the first has come."""
    with httpx.stream(
        "POST", served.url + COMPLETIONS, json={**body, "stream": True}, timeout=60
    ) as response:
        assert response.status_code == 200
        lines = (line for line in response.iter_lines() if line)
        next(lines)
        yield lines


def metric(served: Served, name: str) -> float:
    """The value of a counter; 0 where it was never counted."""
    for line in served.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    return 0.0


def wait_for(true: Callable[[], bool]) -> None:
    """Returns when it is true; fails where it is not within a minute."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish_what_it_has_begun(
    ferrum_serve: Start, number: signal.Signals
) -> None:
    served = ferrum_serve(*SLOW)
    with ThreadPoolExecutor() as pool, streaming(served, TO_ITS_END) as lines:
        waits = pool.submit(served.post, COMPLETIONS, SHORT)
        wait_for(lambda: metric(served, "ferrum_requests_waiting") == 1)
        served.process.send_signal(number)
        wait_for(lambda: served.get("/health").status_code == 503)
        refused = served.post(COMPLETIONS, SHORT)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["code"] == "draining"
        assert served.get("/health").json() == {"status": "draining"}
        assert list(lines)[-1] == "data: [DONE]"
        assert waits.result().json()["usage"]["completion_tokens"] == 3
    assert served.end() == (0, "")


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [(signal.SIGTERM, signal.SIGTERM, 143), (signal.SIGTERM, signal.SIGINT, 130)],
)
def test_a_second_signal_ends_everything_where_it_is(
    ferrum_serve: Start, first: signal.Signals, second: signal.Signals, status: int
) -> None:
    served = ferrum_serve(*SLOW)
    with ThreadPoolExecutor(5) as pool, streaming(served, LONG) as lines:
        waiting = [pool.submit(served.post, COMPLETIONS, LONG) for _ in range(5)]
        wait_for(lambda: metric(served, "ferrum_requests_waiting") == 5)
        served.process.send_signal(first)
        wait_for(lambda: served.get("/health").status_code == 503)
        served.process.send_signal(second)
        last = json.loads(list(lines)[-1].removeprefix("data: "))
        assert last["error"]["code"] == "stopped"
        answers = [one.result() for one in waiting]
        assert {one.status_code for one in answers} == {503}
        assert {one.json()["error"]["code"] for one in answers} == {"stopped"}
    assert served.end() == (status, "")


def test_one_that_ends_waits_for_no_body(ferrum_serve: Start) -> None:
    served = ferrum_serve()
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
            b"\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100")  # it waits for the body now
        client.sendall(b"{")
        served.process.send_signal(signal.SIGTERM)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: " in answer
        assert b'"draining"' in answer
        assert served.end() == (0, "")


def test_an_idle_one_ends_at_once_though_clients_keep_connections(ferrum_serve: Start) -> None:
    served = ferrum_serve()
    with httpx.Client(base_url=served.url) as client:
        assert client.get("/health").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == (0, "")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_cancels_its_request(ferrum_serve: Start, stream: bool) -> None:
    served = ferrum_serve(*SLOW)
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps({**LONG, "stream": stream, "n": 4}).encode()
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
            b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        if stream:
            assert client.recv(10) == b"HTTP/1.1 2"
        else:
            wait_for(lambda: metric(served, "ferrum_blocks_used") > 0)
    wait_for(lambda: metric(served, "ferrum_blocks_used") == 0)
    wait_for(lambda: metric(served, 'ferrum_requests_total{outcome="cancelled"}') >= 3)
    assert metric(served, "ferrum_requests_waiting") == 0
    assert served.post(COMPLETIONS, SHORT).status_code == 200


def test_bad_requests_harm_nobody_else(ferrum_serve: Start) -> None:
    served = ferrum_serve("--max-body", 2000, "--max-queue", 1, *SLOW)
    alone = served.post(COMPLETIONS, TO_ITS_END).json()["choices"][0]["text"]
    with streaming(served, TO_ITS_END) as lines:
        refused = served.post(COMPLETIONS, {**SHORT, "n": 2})
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
        for status, body in [
            (413, {**SHORT, "prompt": "x" * 3000}),
            (400, {**SHORT, "temperature": "hot"}),
            (400, {**SHORT, "prompt": []}),
        ]:
            assert served.post(COMPLETIONS, body).status_code == status
        assert served.get("/nowhere").status_code == 404
        assert served.get(COMPLETIONS).status_code == 405
        *events, done = [line.removeprefix("data: ") for line in lines]
        assert done == "[DONE]"
        text = "".join(json.loads(event)["choices"][0]["text"] for event in events)
        assert text
        assert alone.endswith(text)  # all but what the first event had


def test_time_that_is_up_is_504_or_the_text_so_far(ferrum_serve: Start) -> None:
    served = ferrum_serve("--max-sequences", 1, "--request-timeout", 2)
    with ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(served.post, COMPLETIONS, LONG) for _ in range(40)]
        found = [answer.result() for answer in answers]
    begun = [one.json() for one in found if one.status_code == 200]
    assert {one.status_code for one in found} == {200, 504}
    for one in begun:
        assert one["choices"][0]["finish_reason"] == "length"
        assert one["usage"]["completion_tokens"] > 0
    late = next(one for one in found if one.status_code == 504)
    assert late.json()["error"]["type"] == "timeout_error"
