"""Many clients at once, on ferrum-serve and on llama.cpp's own server in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ferrum.runtime.bench.report import Spread
from ferrum.runtime.bench.serving.load import Load, Round, run
from ferrum.runtime.bench.serving.overhead import capacity
from ferrum.runtime.bench.serving.server import Server, ferrum_server, llama_server


@dataclass(frozen=True)
class Served:
    """A server's rounds."""

    name: str
    rounds: tuple[Round, ...]

    @property
    def tokens_per_second(self) -> Spread:
        """Generated, over all clients, prompts included in the time."""
        return Spread.of([one.tokens_per_second for one in self.rounds])


@dataclass(frozen=True)
class Peer:
    """llama.cpp's server and the file that it serves."""

    program: Path
    gguf: Path
    threads: int


def compare(
    model: Path, peer: Peer | None, load: Load, rounds: int, say: Callable[[str], None]
) -> list[Served]:
    """Every round loads each server once; who is first changes from round to round.

    ferrum-serve first, then both of llama.cpp's modes. The first round does not count.
    """
    with ExitStack() as stack:
        servers: list[Server] = []
        for start in _starts(model, peer, load):
            servers.append(stack.enter_context(start()))
            servers[-1].stop()
        taken: dict[int, list[Round]] = {server.pid: [] for server in servers}
        for number in range(rounds + 1):
            first = number % len(servers)
            for server in (*servers[first:], *servers[:first]):
                say(f"{load.clients} clients, round {number} of {rounds}: {server.name}")
                taken[server.pid].append(run(server, load, number))
    return [Served(server.name, tuple(taken[server.pid][1:])) for server in servers]


def ratio(served: Sequence[Served]) -> Spread | None:
    """ferrum's speed over that of the better of the others, by their medians, round by round."""
    mine, *others = served
    if not others:
        return None
    better = max(others, key=lambda side: side.tokens_per_second.median)
    return Spread.of([
        own.tokens_per_second / other.tokens_per_second
        for own, other in zip(mine.rounds, better.rounds, strict=True)
    ])  # fmt: skip


def _starts(model: Path, peer: Peer | None, load: Load) -> list[Callable[[], Server]]:
    tokens = capacity(load)
    starts: list[Callable[[], Server]] = [
        lambda: ferrum_server(model, kv_capacity=tokens, max_sequences=load.clients)
    ]
    if peer is not None:
        # It cuts its caches into equal parts, one for each slot, of whole 256 tokens.
        each = -(-(load.prompt + load.tokens) // 256) * 256

        def llama(repack: bool) -> Server:
            return llama_server(
                peer.program, peer.gguf, repack=repack, slots=load.clients,
                tokens=load.clients * each, threads=peer.threads,
            )  # fmt: skip

        starts += [lambda: llama(repack=False), lambda: llama(repack=True)]
    return starts
