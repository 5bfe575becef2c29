"""Errors before the first byte of an answer and after it, and clients that go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingError, SamplingParams
from ferrum.runtime.serve.completions import TextForm
from ferrum.runtime.serve.constraint import Constraint
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.generation import Generation
from ferrum.runtime.serve.protocol.completions import CompletionRequest
from ferrum.runtime.serve.respond import Respond
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.settings import ServeSettings

PROMPT = list(range(40, 60))


class Client:
    """The ASGI side of a client: what it was sent, and when it goes."""

    def __init__(self, leaves_after: int | None = None) -> None:
        self.leaves_after, self.sent = leaves_after, list[Any]()
        self._gone = asyncio.Event()

    async def receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self.leaves_after is not None and len(self.sent) > self.leaves_after:
            self._gone.set()

    @property
    def events(self) -> list[str]:
        """The data of the events that have come."""
        text = b"".join(message.get("body", b"") for message in self.sent).decode()
        return [event.removeprefix("data: ") for event in text.split("\n\n")[:-1]]


def failing_at(step: int, error: Exception) -> Callable[[Sequence[int]], Any]:
    """A mask that fails before the token of this number."""

    def mask(generated: Sequence[int]) -> Any:
        if len(generated) == step:
            raise error

    return mask


def answer(
    llm: LLM,
    client: Client,
    params: SamplingParams,
    *,
    constraint: Constraint | None = None,
    **asked: Any,
) -> None:
    """Answer a request whose parameters are given; every block is back afterwards."""
    request = CompletionRequest(prompt=PROMPT, **asked)

    async def within() -> None:
        service = Service.of(llm, ServeSettings())
        async with service.running():
            generation = Generation([PROMPT], [[params]], 0, "prompt", constraint)
            respond = Respond(service, generation, TextForm(service, request, [PROMPT]))
            with service.engine.place() as place:
                answered = respond(place, {"type": "http"}, client.receive, client.send)
                await asyncio.wait_for(answered, 60)

    asyncio.run(within())
    assert llm.engine.idle
    assert llm.session.pool.used == 0


def test_an_error_in_mid_stream_is_the_last_event(sample_llm: LLM) -> None:
    client = Client()
    params = SamplingParams(max_tokens=50, ignore_eos=True, mask=failing_at(5, KeyError("secret")))
    answer(sample_llm, client, params, stream=True)
    *texts, error = map(json.loads, client.events)
    assert texts
    assert all(event["choices"][0]["text"] for event in texts)
    assert set(error) == {"error"}
    assert error["error"]["type"] == "api_error"
    assert "secret" not in json.dumps(error)
    assert client.sent[-1]["more_body"] is False


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_first_token_is_raised(sample_llm: LLM, stream: bool) -> None:
    client = Client()
    params = SamplingParams(max_tokens=50, mask=failing_at(0, KeyError("secret")))
    with pytest.raises(KeyError):
        answer(sample_llm, client, params, stream=stream)
    assert client.sent == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_constraint_that_allows_no_token_is_a_bad_request(sample_llm: LLM, stream: bool) -> None:
    nothing = np.zeros(sample_llm.session.vocabulary, np.bool_)
    with pytest.raises(ApiError) as caught:
        answer(
            sample_llm,
            Client(),
            SamplingParams(max_tokens=50),
            constraint=Constraint("structured_outputs", lambda: lambda _: nothing),
            stream=stream,
        )
    assert (caught.value.status, caught.value.param) == (400, "structured_outputs")


def test_a_constraint_that_fails_in_mid_stream_says_so(sample_llm: LLM) -> None:
    client = Client()
    mask = failing_at(4, SamplingError("[mask] fails"))
    answer(
        sample_llm, client, SamplingParams(max_tokens=50, ignore_eos=True),
        constraint=Constraint("response_format", lambda: mask), stream=True,
    )  # fmt: skip
    error = json.loads(client.events[-1])["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "response_format")


def test_a_client_that_leaves_a_stream_is_sent_no_end(slow_llm: LLM) -> None:
    client = Client(leaves_after=3)
    answer(slow_llm, client, SamplingParams(max_tokens=900, ignore_eos=True), stream=True)
    assert len(client.sent) < 100
    assert "[DONE]" not in client.events


def test_a_client_that_leaves_while_it_waits_is_sent_nothing(sample_llm: LLM) -> None:
    client = Client()
    client._gone.set()
    answer(sample_llm, client, SamplingParams(max_tokens=900, ignore_eos=True))
    assert client.sent == []


def test_a_stream_begins_with_its_first_text(sample_llm: LLM) -> None:
    client = Client()
    answer(sample_llm, client, SamplingParams(max_tokens=3, ignore_eos=True), stream=True)
    start, first = client.sent[:2]
    assert start["status"] == 200
    assert first["body"].startswith(b"data: {")
    assert client.events[-1] == "[DONE]"


def test_text_that_was_held_back_comes_when_the_time_is_up() -> None:
    """The end of a text whose time was up is in no piece."""
    request = CompletionRequest(prompt="a", stream=True)
    tokenizer = SimpleNamespace(decode=str)
    service: Any = SimpleNamespace(model_name="m", llm=SimpleNamespace(tokenizer=tokenizer))
    growing = TextForm(service, request, ["a"]).growing(0)
    assert growing.add([]) == []
    (item,) = growing.end("length", "tail")
    assert (item["text"], item["finish_reason"]) == ("tail", "length")
