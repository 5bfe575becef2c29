"""Clients of one server, of whom some go away or ask for nonsense: no other notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from ferrum.runtime.grammar_error import GrammarError

if TYPE_CHECKING:
    from conftest import Api

MESSAGES: Any = [{"role": "user", "content": "def fibonacci(n):"}]
ENDLESS: Any = {"messages": MESSAGES, "ignore_eos": True, "n": 6}


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; it must within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_stream_that_is_closed_ends_all_its_choices(slow_api: Api) -> None:
    stream = slow_api.client.chat.completions.create(
        model="tinycode", messages=MESSAGES, n=6, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    llm = slow_api.service.llm
    with llm.lock:  # between two steps, of which one may move a request from line to line
        requests = [*llm.engine.scheduler.running, *llm.engine.scheduler.waiting]
    stream.close()
    wait_for(lambda: slow_api.service.engine.idle)
    assert len(requests) == 6
    assert {request.finish_reason for request in requests} == {"cancelled"}
    assert llm.session.pool.used == 0


def test_a_client_that_stops_waiting_for_its_answer_ends_all_choices(slow_api: Api) -> None:
    url = f"{slow_api.url}/v1/chat/completions"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=ENDLESS, timeout=httpx.Timeout(60, read=0.2))
    wait_for(lambda: slow_api.service.engine.idle)
    assert slow_api.service.llm.session.pool.used == 0


def test_answers_are_the_same_beside_bad_requests_and_clients_that_go(api: Api) -> None:
    def good(seed: int) -> str:
        answer = api.client.chat.completions.create(
            model="tinycode", messages=MESSAGES, max_tokens=40, seed=seed
        )
        return str(answer.choices[0].message.content)

    def bad(number: int) -> None:
        bodies: list[Any] = [
            {"messages": "none"},
            {"messages": MESSAGES, "structured_outputs": {"regex": "("}},
            {"messages": [{"role": "user", "content": "a " * 5000}]},
        ]
        answer = api.post("/v1/chat/completions", bodies[number % 3])
        assert answer.status_code == 400

    def gone(_: int) -> None:
        body, url = {**ENDLESS, "n": 2, "stream": True}, f"{api.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            next(answer.iter_raw())

    alone = [good(seed) for seed in range(4)]
    with ThreadPoolExecutor(12) as clients:
        beside = [clients.submit(good, seed) for seed in range(4)]
        others = [clients.submit(what, i) for i in range(6) for what in (bad, gone)]
        assert [answer.result() for answer in beside] == alone
        for other in others:
            other.result()
    wait_for(lambda: api.service.engine.idle)
    assert api.service.llm.session.pool.used == 0


def test_a_large_request_is_read_beside_the_steps(api: Api) -> None:
    """The event loop answers while a body of megabytes is parsed and tokenized."""
    large, answered = {"prompt": "the quick brown fox " * 100_000}, threading.Event()

    def ask() -> None:
        assert api.post("/tokenize", large).status_code == 200
        answered.set()

    asking = threading.Thread(target=ask)
    between = 0
    with httpx.Client(base_url=api.url, timeout=60) as client:
        asking.start()
        while not answered.is_set():
            assert client.get("/health").status_code == 200
            between += not answered.is_set()
        asking.join()
    assert between >= 2


def test_a_refused_request_leaves_nothing_behind(api: Api) -> None:
    for _ in range(3):
        with pytest.raises(openai.BadRequestError):
            api.client.completions.create(model="tinycode", prompt=["a", "a " * 2000], n=4)
    wait_for(lambda: api.service.engine.idle)
    assert api.service.llm.session.pool.used == 0


def test_prompts_far_too_long_are_refused_before_they_are_tokens(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, made = api.service.llm.tokenizer, []
    usual = tokenizer.encode

    def encode(text: str, **options: Any) -> list[int]:
        made.append(len(text))
        return usual(text, **options)

    monkeypatch.setattr(tokenizer, "encode", encode)
    text = "def f(x): return x\n" * 100_000
    for path, body in [
        ("/v1/completions", {"prompt": text}),
        ("/v1/completions", {"prompt": ["a", text]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
    ]:
        made.clear()
        answer = api.post(path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            400,
            "context_length_exceeded",
        )
        assert sum(made) < len(text) / 10


def test_a_grammar_in_its_turn_is_counted_limited_and_answered(
    api_with: Callable[..., AbstractContextManager[Api]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests whose grammars wait to be compiled are requests that wait."""
    go_on = threading.Event()
    body = {"prompt": "a", "max_tokens": 2, "structured_outputs": {"regex": "[a-z]+"}}
    with api_with(max_queue=1) as api:
        usual = api.service.grammars.regex

        def regex(*arguments: Any, **options: Any) -> Any:
            assert go_on.wait(60)
            return usual(*arguments, **options)

        monkeypatch.setattr(type(api.service.grammars), "regex", lambda _, *a, **o: regex(*a, **o))
        with ThreadPoolExecutor(8) as clients:
            asked = [clients.submit(api.post, "/v1/completions", body) for _ in range(5)]
            wait_for(lambda: api.service.engine.queued == 5)
            refused = api.post("/v1/completions", body)
            assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
            go_on.set()
            assert {one.result().status_code for one in asked} == {200}


def test_a_grammar_whose_client_has_gone_is_not_compiled(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, compiled = threading.Event(), []

    def regex(_: Any, pattern: str, **options: Any) -> Any:
        compiled.append(pattern)
        assert go_on.wait(60)
        raise GrammarError("[regex] no")

    monkeypatch.setattr(type(api.service.grammars), "regex", regex)
    url = f"{api.url}/v1/completions"

    def ask(pattern: str, seconds: float) -> int:
        body = {"prompt": "a", "structured_outputs": {"regex": pattern}}
        return httpx.post(url, json=body, timeout=httpx.Timeout(60, read=seconds)).status_code

    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(ask, "first", 60)
        wait_for(lambda: compiled == ["first"])
        second = clients.submit(ask, "second", 1)
        wait_for(lambda: api.service.engine.queued == 2)
        with pytest.raises(httpx.ReadTimeout):
            second.result()
        wait_for(lambda: api.service.engine.queued == 1)
        go_on.set()
        assert first.result() == 400
    wait_for(lambda: api.service.engine.idle)
    assert compiled == ["first"]
