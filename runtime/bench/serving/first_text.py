"""How long a user waits for the first text: beside another's long prompt, and in a second turn."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ferrum.runtime.bench.errors import SideFailed
from ferrum.runtime.bench.serving.client import Answer, Ask, send
from ferrum.runtime.bench.serving.load import check, completion
from ferrum.runtime.bench.serving.server import Server, ferrum_server
from ferrum.runtime.settings import Settings

_CAPACITY = 16384  # tokens in the caches: several times what is asked for at once
_ANSWER = 16  # tokens of the answers here: their beginning is what is measured
_ATTEMPTS = 6
_OFFSETS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8)  # of the long prompt's time, when the short one comes


@dataclass(frozen=True)
class Beside:
    """Seconds to the first text, of one round.

    `chunk`: a prompt of as many tokens as a step takes, alone. `mean_chunk`: the long prompt's
    time by its chunks, the later of which see more context.
    """

    alone: float
    chunk: float
    long_alone: float
    mean_chunk: float
    short: tuple[float, ...]  # beside the long one, begun at different moments of it
    long: tuple[float, ...]  # the long one's, meanwhile


def beside_long_prompt(
    model: Path, vocabulary: int, short: int, long: int, rounds: int, say: Callable[[str], None]
) -> list[Beside]:
    """A prompt of `short` tokens while one of `long` is being read, beside it alone."""
    step = Settings.read().step_tokens
    draw = np.random.default_rng(11)

    def ask(tokens: int) -> Ask:
        return completion(draw.integers(vocabulary, size=tokens).tolist(), _ANSWER, temperature=0)

    found = []
    with ferrum_server(model, kv_capacity=_CAPACITY) as server:
        for number in range(rounds + 1):
            say(f"short beside long prompt, round {number} of {rounds}")
            alone, chunk, whole = (_alone(server, ask(n)) for n in (short, step, long))
            pairs = [
                _beside(server, partial(ask, long), partial(ask, short), offset * whole)
                for offset in _OFFSETS
            ]
            found.append(
                Beside(
                    alone=alone,
                    chunk=chunk,
                    long_alone=whole,
                    mean_chunk=whole * step / long,
                    short=tuple(first for first, _ in pairs),
                    long=tuple(second for _, second in pairs),
                )
            )
    return found[1:]


def _alone(server: Server, ask: Ask) -> float:
    answer = asyncio.run(send(server.port, ask))
    check(server, answer, _ANSWER)
    return answer.first_text


def _beside(
    server: Server, long: Callable[[], Ask], short: Callable[[], Ask], delay: float
) -> tuple[float, float]:
    """The first text of the short one, sent `delay` seconds after the long one, and of that.

    Sooner where the long one was faster than thought: they are to meet.
    """
    for attempt in range(_ATTEMPTS):
        first, second = asyncio.run(_both(server, long(), short(), delay / 2**attempt))
        for answer in (first, second):
            check(server, answer, _ANSWER)
        if first.texts[0].time > second.started:
            return second.first_text, first.first_text
    raise SideFailed("[beside] the long prompt had always ended before the short one came")


async def _both(server: Server, long: Ask, short: Ask, delay: float) -> tuple[Answer, Answer]:
    running = asyncio.create_task(send(server.port, long))
    await asyncio.sleep(delay)
    second = await send(server.port, short)
    return await running, second


@dataclass(frozen=True)
class Turns:
    """Seconds to the first text in a round, with prompts reused and computed anew."""

    history: int  # tokens of the first turn, question and answer
    question: int  # tokens that the second turn adds
    cached: int  # tokens of the second turn that were reused
    first: float  # the first turn, from nothing
    reused: float
    anew: float

    @property
    def ratio(self) -> float:
        """How many times as fast reuse is."""
        return self.anew / self.reused


def second_turn(model: Path, history: int, rounds: int, say: Callable[[str], None]) -> list[Turns]:
    """A chat of about `history` tokens and its next question, prefix_reuse on and off in turn."""
    found = []
    with (
        ferrum_server(model, kv_capacity=_CAPACITY) as on,
        ferrum_server(model, kv_capacity=_CAPACITY, prefix_reuse=False) as off,
    ):
        off.stop()
        words = _words_for(on, history)
        on.stop()
        for number in range(rounds + 1):
            say(f"second turn, round {number} of {rounds}")
            order = (on, off) if number % 2 else (off, on)
            by_server = {server.pid: _two_turns(server, number, words) for server in order}
            (first, second), (_, anew) = by_server[on.pid], by_server[off.pid]
            told = first.usage
            found.append(
                Turns(
                    history=told["prompt_tokens"] + told["completion_tokens"],
                    question=second.usage["prompt_tokens"] - told["total_tokens"],
                    cached=(second.usage["prompt_tokens_details"] or {}).get("cached_tokens", 0),
                    first=first.first_text,
                    reused=second.first_text,
                    anew=anew.first_text,
                )
            )
    return found[1:]


def _two_turns(server: Server, number: int, words: int) -> tuple[Answer, Answer]:
    draw = random.Random(number)
    messages = [{"role": "user", "content": _words(draw, words)}]
    server.go()
    first = _chat(server, messages)
    messages += [
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": _words(draw, 8)},
    ]
    second = _chat(server, messages)
    server.stop()
    return first, second


def _chat(server: Server, messages: Sequence[dict[str, Any]]) -> Answer:
    body = {
        "messages": messages, "max_tokens": _ANSWER, "ignore_eos": True, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    answer = asyncio.run(send(server.port, Ask("/v1/chat/completions", body)))
    check(server, answer, _ANSWER)
    return answer


def _words_for(server: Server, tokens: int) -> int:
    """How many words have that many tokens, nearly: what the first guess lacks is added."""
    words = tokens // 2
    for seed in ("first guess", "second guess"):
        answer = _chat(server, [{"role": "user", "content": _words(random.Random(seed), words)}])
        words = -(-words * tokens // answer.usage["prompt_tokens"])
    return words


def _words(draw: random.Random, count: int) -> str:
    letters = string.ascii_lowercase
    return " ".join("".join(draw.choices(letters, k=draw.randint(2, 4))) for _ in range(count))
