"""A server under a crowd for a while: what comes of every request, and whether memory is flat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, mean

from ferrum.runtime.bench.memory import Memory, memory_of
from ferrum.runtime.bench.serving.client import Answer, send
from ferrum.runtime.bench.serving.metrics import read_metrics
from ferrum.runtime.bench.serving.server import Server, ferrum_server
from ferrum.runtime.bench.serving.traffic import Request, Traffic

_SAMPLES = 240  # readings of the memory over the whole time
_WITHIN = 120.0  # seconds in which every answer must have ended
_SETTLE = 60.0  # seconds until all that was abandoned is gone
_TOLD = 20  # so many unexpected outcomes are told in full
_BUSY = ("ferrum_requests_running", "ferrum_requests_waiting", "ferrum_blocks_used")


@dataclass
class Soak:
    """What happened."""

    seconds: float
    clients: int
    outcomes: dict[str, int] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    memory: list[tuple[float, Memory]] = field(default_factory=list)  # seconds since the start
    tokens: int = 0  # generated, as usage tells
    end: dict[str, float] = field(default_factory=dict)  # the metrics after it
    status: int = 0  # of the server's process

    def note(self, outcome: str, why: str) -> None:
        """Count what came of a request; `why` is kept where that should not be."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if outcome == "unexpected" and len(self.unexpected) < _TOLD:
            self.unexpected.append(why)

    @property
    def errors(self) -> int:
        """Outcomes that nobody provoked."""
        return self.outcomes.get("unexpected", 0)

    @property
    def all_blocks_back(self) -> bool:
        """Whether nothing runs, waits or has a block."""
        return all(self.end[name] == 0 for name in _BUSY) and (
            self.end["ferrum_blocks_free"] == self.end["ferrum_blocks"]
        )

    @property
    def growth(self) -> float:
        """Growth of the resident memory over the second half."""
        return growth([(when, m.anonymous + m.file) for when, m in self.memory])


def growth(samples: Sequence[tuple[float, int]]) -> float:
    """What a straight line through the second half's readings rises by, as a share of their mean.

    All of them count: tokenizing long prompts takes and gives back some megabytes all the time.
    """
    half = [(when, size) for when, size in samples if when >= 0.5 * samples[-1][0]]
    if len(half) < 2:
        return 0.0
    times, sizes = [when for when, _ in half], [size for _, size in half]
    return linear_regression(times, sizes).slope * (times[-1] - times[0]) / mean(sizes)


def soak(
    model: Path, *, seconds: float, clients: int, kv_capacity: int, say: Callable[[str], None]
) -> Soak:
    """`clients` clients for a while, each sending its next request when the last has ended.

    A pool of `kv_capacity` tokens is less than they want at once, so that some are preempted.
    """
    with ferrum_server(model, kv_capacity=kv_capacity) as server:
        found = asyncio.run(_soak(server, Soak(seconds, clients), say))
        if (start := server.output.find("Traceback")) >= 0:
            found.note("unexpected", f"in the server's output: {server.output[start:][:4000]}")
        found.status = server.end()
    return found


async def _soak(server: Server, found: Soak, say: Callable[[str], None]) -> Soak:
    end = time.monotonic() + found.seconds
    watch = asyncio.create_task(_watch(server, found, say))
    await asyncio.gather(*(_client(server, found, seed, end) for seed in range(found.clients)))
    watch.cancel()
    deadline = time.monotonic() + _SETTLE
    while True:
        found.end = await read_metrics(server)
        if not any(found.end[name] for name in _BUSY) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.1)


async def _watch(server: Server, found: Soak, say: Callable[[str], None]) -> None:
    start = time.monotonic()
    while True:
        found.memory.append((time.monotonic() - start, memory_of(server.pid)))
        say(f"soak, {time.monotonic() - start:.0f} s: {dict(found.outcomes)}")
        await asyncio.sleep(found.seconds / _SAMPLES)


async def _client(server: Server, found: Soak, seed: int, end: float) -> None:
    traffic = Traffic(seed, longest_prompt=300, most_tokens=200)
    while time.monotonic() < end:
        request = traffic.next()
        try:
            answer = await send(server.port, request.ask, within=_WITHIN)
        except asyncio.TimeoutError:
            found.note("unexpected", f"{_sent(request)}: no end within {_WITHIN:.0f} s")
            continue
        outcome, why = judge(request, answer)
        found.tokens += _generated(answer) if outcome == "answered" else 0
        found.note(outcome, f"{_sent(request)}: {why}")


def judge(request: Request, answer: Answer) -> tuple[str, str]:
    """What came of a request in a word, "unexpected" where that should not be, and why so."""
    if answer.given_up:
        return "abandoned", ""
    if not answer.whole or answer.status != request.status:
        return "unexpected", f"status {answer.status} -> {request.status}; {_said(answer)}"
    if request.kind == "malformed":
        error = answer.json.get("error", {}) if request.ask.method == "POST" else {}
        if request.param is not None and error.get("param") != request.param:
            return "unexpected", f"param {error.get('param')} -> {request.param}; {_said(answer)}"
        return f"refused ({answer.status})", ""
    if request.ask.body.get("stream"):
        broken = [event.data for event in answer.events if "error" in event.data]
        if broken or not answer.is_whole_stream:
            return "unexpected", f"{broken or 'a stream without its end'}; {_said(answer)}"
    if not answer.usage.get("completion_tokens"):
        return "unexpected", f"no tokens; {_said(answer)}"
    return "answered", ""


def _generated(answer: Answer) -> int:
    return int(answer.usage["completion_tokens"])


def _sent(request: Request) -> str:
    return f"{request.ask.path} {str(request.ask.body)[:300]}"


def _said(answer: Answer) -> str:
    return answer.broken or answer.body[-300:].decode(errors="replace")
