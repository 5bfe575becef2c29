"""Requests as a crowd sends them: of any length and kind, some abandoned, some malformed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Any, Literal

from ferrum.runtime.bench.serving.client import Ask

Kind = Literal["whole", "abandoned", "malformed"]

CANCELLED, MALFORMED = 0.20, 0.05  # shares of the requests
_WORDS = (
    "def", "class", "return", "self", "value", "for", "item", "in", "list", "if", "not", "None",
    "import", "name", "print", "len", "range", "(x)", ":\n    ", "=", "+ 1", "[0]", "{}", "# ",
)  # fmt: skip
_SHARED = 4  # beginnings that requests have in common, as system prompts are
_STREAMED = 0.7
_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "value": {"type": "boolean"}},
    "required": ["name", "value"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Request:
    """What to send, and what is to come of it; `param` is the field that a refusal must name."""

    kind: Kind
    ask: Ask
    status: int = 200
    param: str | None = None


class Traffic:
    """An endless row of requests, the same for the same seed."""

    def __init__(self, seed: int, *, longest_prompt: int, most_tokens: int) -> None:
        """Lengths are drawn up to these: of a prompt in words, of an answer in tokens."""
        self._draw = random.Random(seed)
        self._longest, self._most = longest_prompt, most_tokens
        beginnings = random.Random(0)  # the same for everybody
        self._beginnings = [
            " ".join(beginnings.choices(_WORDS, k=longest_prompt // 3)) for _ in range(_SHARED)
        ]

    def next(self) -> Request:
        """The next one."""
        kind = self._draw.random()
        if kind < MALFORMED:
            return self._malformed()
        ask = self._ask()
        if kind < MALFORMED + CANCELLED:
            return Request("abandoned", self._abandon(ask))
        return Request("whole", ask)

    def _ask(self) -> Ask:
        draw = self._draw
        body: dict[str, Any] = {"max_tokens": self._length(self._most), **self._sampling()}
        if draw.random() < _STREAMED:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if draw.random() < 0.5:
            return Ask("/v1/completions", body | {"prompt": self._text()})
        messages = [
            {"role": "system", "content": draw.choice(self._beginnings)},
            {"role": "user", "content": self._text()},
        ]
        return Ask("/v1/chat/completions", body | {"messages": messages})

    def _abandon(self, ask: Ask) -> Ask:
        """Gone before the answer or in its midst; it would have been a long one."""
        draw, tokens = self._draw, max(self._most // 2, ask.body["max_tokens"])
        body = {**ask.body, "max_tokens": tokens, "ignore_eos": True}
        body.pop("stop", None)
        body.pop("response_format", None)
        if body.get("stream") and draw.random() < 0.8:
            return replace(ask, body=body, enough=self._length(tokens // 4))
        return replace(ask, body=body, patience=draw.uniform(0.0, 0.2))

    def _malformed(self) -> Request:
        """Something that must be refused, and how."""
        draw, ask = self._draw, Ask("/v1/completions", {"prompt": self._text(), "max_tokens": 4})
        wrong: list[tuple[Ask, int, str | None]] = [
            (replace(ask, body=b'{"prompt": "def f('), 400, None),
            (replace(ask, body=b"\xff\xfe\x00"), 400, None),
            (replace(ask, body=[1, 2]), 400, None),
            (replace(ask, body={"max_tokens": 4}), 400, "prompt"),
            (replace(ask, body=ask.body | {"temperature": "hot"}), 400, "temperature"),
            (replace(ask, body=ask.body | {"max_tokens": -1}), 400, "max_tokens"),
            (replace(ask, body=ask.body | {"top_p": 3}), 400, "top_p"),
            (replace(ask, body=ask.body | {"no_such_field": 1}), 400, "no_such_field"),
            (replace(ask, body=ask.body | {"prompt": "def " * 20_000}), 400, "prompt"),
            (replace(ask, body=ask.body | {"prompt": [1 << 30]}), 400, "prompt"),
            (replace(ask, body=ask.body | {"n": 1000}), 400, "n"),
            (replace(ask, path="/v1/chat/completions", body={"messages": []}), 400, "messages"),
            (
                replace(ask, body=ask.body | {"structured_outputs": {"regex": "("}}),
                400, "structured_outputs",
            ),
            (replace(ask, body=b" " * (5 << 20)), 413, None),
            (replace(ask, headers={"Content-Type": "text/plain"}), 415, None),
            (replace(ask, path="/v1/nothing"), 404, None),
            (replace(ask, method="GET", body=None), 405, None),
        ]  # fmt: skip
        sent, status, param = draw.choice(wrong)
        return Request("malformed", sent, status, param)

    def _sampling(self) -> dict[str, Any]:
        draw = self._draw
        body: dict[str, Any] = {"temperature": draw.choice([0, 0.5, 1.0])}
        if draw.random() < 0.3:
            body |= {"top_k": draw.randint(1, 50), "top_p": draw.uniform(0.5, 1.0)}
        if draw.random() < 0.3:
            body["seed"] = draw.randrange(1 << 30)
        if draw.random() < 0.1:
            body["n"] = draw.randint(2, 3)
        if draw.random() < 0.2:
            body["stop"] = draw.choice(["\n\n", ["return", "def"]])
        if draw.random() < 0.1:
            body["ignore_eos"] = True
        if draw.random() < 0.05:
            schema = {"type": "json_schema", "json_schema": {"name": "pair", "schema": _SCHEMA}}
            body["response_format"] = schema
        return body

    def _text(self) -> str:
        draw = self._draw
        words = " ".join(draw.choices(_WORDS, k=self._length(self._longest)))
        return f"{draw.choice(self._beginnings)} {words}" if draw.random() < 0.3 else words

    def _length(self, most: int) -> int:
        """Short ones are as common as long ones, by the order of their size."""
        return min(most, math.floor(math.exp(self._draw.uniform(0.0, math.log(most + 1)))))
