"""Objects to the events of a stream: server-sent events, as OpenAI's clients read them.

The bytes of what all events of a stream share are made once; an event costs the encoding of one
small dict.
"""

from __future__ import annotations

import json
from typing import Any

from ferrum.runtime.serve.errors import ApiError

DONE = b"data: [DONE]\n\n"
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies that know it pass each event on at once
)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode(value: Any) -> bytes:
    """A value as JSON."""
    # What a model writes may spell half a surrogate pair, which UTF-8 has no bytes for.
    return _encode(value).encode("utf-8", "replace")


def event(value: Any) -> bytes:
    """An event whose data is a value."""
    return b"data: %b\n\n" % encode(value)


def error_event(error: ApiError) -> bytes:
    """The last event of a stream that has failed: OpenAI's clients raise what it says."""
    return event(error.body())


class Envelope:
    """What all events of a stream have around their choices."""

    def __init__(self, head: dict[str, Any], *, usage_follows: bool) -> None:
        """`head` is id, object, created and model; `usage_follows` puts "usage": null into all
        events but the last, as clients that have asked for the usage expect."""
        self._head = b'data: %b,"choices":' % encode(head)[:-1]
        self._tail = b',"usage":null}\n\n' if usage_follows else b"}\n\n"

    def event(self, choice: dict[str, Any]) -> bytes:
        """An event with news of one choice."""
        return b"%b[%b]%b" % (self._head, encode(choice), self._tail)

    def last_event(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> bytes:
        """An event with the usage."""
        return b'%b%b,"usage":%b}\n\n' % (self._head, encode(choices), encode(usage))
