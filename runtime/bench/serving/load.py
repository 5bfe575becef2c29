"""Many clients at once: how fast a server brings them their tokens."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferrum.runtime.bench.errors import SideFailed
from ferrum.runtime.bench.load import CpuLoad
from ferrum.runtime.bench.serving.client import HOST, Answer, Ask
from ferrum.runtime.bench.serving.server import Server

_NAP = 0.002  # seconds; to so much are times exact
_SILENCE = 300.0  # seconds without a token after which a server is given up


@dataclass(frozen=True)
class Load:
    """What the clients ask for: each one completion of `tokens` tokens of a prompt of its own.

    temperature 0 chooses the likeliest token; otherwise the samplers are those that servers have
    without being asked: the 40 likeliest tokens, 95 % of the probability.
    """

    clients: int
    prompt: int
    tokens: int
    vocabulary: int
    temperature: float = 0.0

    def prompts(self, number: int) -> list[list[int]]:
        """Random token ids, others in each round, so that no cache knows them."""
        random = np.random.default_rng([7, number])
        ids: list[list[int]] = random.integers(
            self.vocabulary, size=(self.clients, self.prompt)
        ).tolist()
        return ids

    def asks(self, number: int) -> list[Ask]:
        """A round's requests."""
        sampling: dict[str, Any] = {"temperature": self.temperature}
        if self.temperature:
            sampling |= {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "seed": number}
        return [completion(prompt, self.tokens, **sampling) for prompt in self.prompts(number)]


def completion(prompt: Sequence[int], tokens: int, **sampling: Any) -> Ask:
    """A streamed completion of exactly `tokens` tokens, as both servers understand it."""
    return Ask("/v1/completions", {
        "prompt": list(prompt), "max_tokens": tokens, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True}, **sampling,
    })  # fmt: skip


@dataclass(frozen=True)
class Round:
    """All clients served once."""

    seconds: float  # from the first request to the end of the last answer
    tokens: int  # generated, over all clients
    together: float | None  # generated per second while every client was served, if they ever were
    first_text: tuple[float, ...]  # seconds, client by client
    client_cpu: float  # share of one core that the clients themselves took
    foreign_cpu: float  # share of all CPU time that other programs took

    @property
    def tokens_per_second(self) -> float:
        """Over all clients, prompts included in the time."""
        return self.tokens / self.seconds


def run(server: Server, load: Load, number: int) -> Round:
    """One round; the server, stopped before, is stopped again after it."""
    asks = load.asks(number)
    server.go()
    busy, own, start = CpuLoad(server.pid), time.process_time(), time.perf_counter()
    answers = _all(server, asks)
    seconds = time.perf_counter() - start
    own, foreign = time.process_time() - own, busy.foreign()
    server.stop()
    for answer in answers:
        check(server, answer, load.tokens)
    return Round(
        seconds=seconds,
        tokens=load.clients * load.tokens,
        together=_together(answers, load.tokens),
        first_text=tuple(answer.first_text for answer in answers),
        client_cpu=own / seconds,
        foreign_cpu=foreign,
    )


def check(server: Server, answer: Answer, tokens: int) -> None:
    """SideFailed where an answer is not what was asked for."""
    if answer.status != 200 or not answer.is_whole_stream:
        said = answer.broken or answer.body.decode(errors="replace")[:300]
        raise SideFailed(f"[{server.name}] status {answer.status}: {said}")
    if (got := answer.usage.get("completion_tokens")) != tokens:
        raise SideFailed(f"[{server.name}] {got} tokens -> {tokens}")


def _all(server: Server, asks: Sequence[Ask]) -> list[Answer]:
    """All requests at once, one connection each.

    What has come meanwhile is taken in one go, and not each client's piece as it comes: a server's
    clients are elsewhere, but these take a core from it whenever they wake.
    """
    answers, messages = [], [ask.message() for ask in asks]
    with selectors.DefaultSelector() as coming, ExitStack() as stack:
        for ask, message in zip(asks, messages, strict=True):
            answers.append(Answer(ask.method, time.perf_counter()))
            connection = stack.enter_context(socket.create_connection((HOST, server.port)))
            connection.sendall(message)
            coming.register(connection, selectors.EVENT_READ, (connection, answers[-1]))
        while coming.get_map():
            if not (ready := coming.select(_SILENCE)):
                raise SideFailed(f"[{server.name}] nothing came for {_SILENCE:.0f} s")
            for key, _ in ready:
                _take(coming, *key.data)
            time.sleep(_NAP)
    return answers


def _take(coming: selectors.BaseSelector, connection: socket.socket, answer: Answer) -> None:
    data = connection.recv(1 << 16)
    now = time.perf_counter()
    if data:
        answer.pieces.append((now, data))
    else:
        answer.ended = now
        coming.unregister(connection)


def _together(answers: Sequence[Answer], tokens: int) -> float | None:
    """Tokens per second from the last client's first text to the first client's last.

    None where the first had ended before the last began.

    An event that brings text is a token, but for the few tokens whose text comes with a later one.
    """
    start = max(answer.texts[0].time for answer in answers)
    end = min(answer.texts[-1].time for answer in answers)
    if end <= start:
        return None
    each = [sum(start < e.time <= end for e in a.texts) * tokens / len(a.texts) for a in answers]
    return sum(each) / (end - start)
