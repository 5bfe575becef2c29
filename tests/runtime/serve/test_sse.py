"""Events of a stream."""

from __future__ import annotations

import json

from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.sse import Envelope, encode, error_event

HEAD = {"id": "x", "object": "text_completion", "created": 1, "model": "m"}


def data(event: bytes) -> object:
    """What an event carries."""
    text = event.decode()
    assert text.startswith("data: ")
    assert text.endswith("\n\n")
    assert text.count("\n") == 2
    return json.loads(text.removeprefix("data: "))


def test_an_event_has_one_choice_and_what_all_events_have() -> None:
    choice = {"index": 0, "text": "línea\n\n語"}
    assert data(Envelope(HEAD, usage_follows=False).event(choice)) == {**HEAD, "choices": [choice]}


def test_usage_is_null_until_it_comes() -> None:
    envelope, usage = Envelope(HEAD, usage_follows=True), {"prompt_tokens": 1}
    assert data(envelope.event({})) == {**HEAD, "choices": [{}], "usage": None}
    assert data(envelope.last_event([], usage)) == {**HEAD, "choices": [], "usage": usage}


def test_an_error_is_openais_object() -> None:
    error = ApiError(500, "no", code="step_failed")
    assert data(error_event(error)) == error.body()


def test_half_a_surrogate_pair_is_no_trouble() -> None:
    assert encode("a\ud800b") == b'"a?b"'
