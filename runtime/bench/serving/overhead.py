"""What server and scheduler cost per token, beside the model's step alone on the same tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ferrum.runtime.bench.errors import SideFailed
from ferrum.runtime.bench.serving.load import Load, Round, run
from ferrum.runtime.bench.serving.metrics import metrics
from ferrum.runtime.bench.serving.server import Server, ferrum_server
from ferrum.runtime.session import Session
from ferrum.runtime.settings import Settings


class ModelAlone:
    """The session's steps and nothing else: nobody schedules, nobody samples but for an argmax."""

    def __init__(self, model: Path, load: Load) -> None:
        settings = Settings.read(kv_capacity=capacity(load), max_sequences=load.clients)
        self._session, self._load = Session.open(model, settings), load

    def run(self, number: int) -> float:
        """Seconds per step of a round's decode, the argmax between steps left out."""
        session, steps, spent = self._session, self._load.tokens - 1, 0.0
        prompts = enumerate(self._load.prompts(number))
        tokens = [int(session.prefill(name, prompt).argmax()) for name, prompt in prompts]
        for _ in range(steps):
            pieces = [(name, [token]) for name, token in enumerate(tokens)]
            start = time.perf_counter()
            logits = session.step(pieces)
            spent += time.perf_counter() - start
            tokens = logits.argmax(axis=1).tolist()
        session.reset()
        return spent / steps


@dataclass(frozen=True)
class Overhead:
    """One round of both."""

    alone: float  # seconds per step of the model alone
    served: float  # seconds per step through HTTP, while all clients were served
    in_graph: float | None  # of the engine's steps, the share that the graph takes
    round: Round

    @property
    def share(self) -> float:
        """What comes on top of the model's step."""
        return self.served / self.alone - 1


def overhead(model: Path, load: Load, rounds: int, say: Callable[[str], None]) -> list[Overhead]:
    """Server and model alone in turn, after a round that does not count."""
    alone = ModelAlone(model, load)
    with ferrum_server(model, kv_capacity=capacity(load), max_sequences=load.clients) as server:
        server.stop()
        found = []
        for number in range(rounds + 1):
            say(f"overhead, round {number} of {rounds}")
            found.append(_once(server, alone, load, number))
    return found[1:]


def capacity(load: Load) -> int:
    """Tokens that the caches must hold, in whole blocks."""
    block = Settings.read().block_size
    return load.clients * -(-(load.prompt + load.tokens) // block) * block


def _once(server: Server, alone: ModelAlone, load: Load, number: int) -> Overhead:
    orders = [0, 1] if number % 2 else [1, 0]
    step, served, share = 0.0, None, None
    for turn in orders:
        if turn:
            step = alone.run(number)
        else:
            server.go()
            before = metrics(server)
            served = run(server, load, number)
            server.go()
            share = _graph_share(before, metrics(server))
            server.stop()
    assert served is not None
    if served.together is None:
        raise SideFailed("[overhead] the clients were never all served at once -> more --tokens")
    return Overhead(step, load.clients / served.together, share, served)


def _graph_share(before: dict[str, float], after: dict[str, float]) -> float | None:
    """None where the server does not tell."""
    graph, step = "ferrum_graph_seconds_total", "ferrum_step_seconds_sum"
    if graph not in after or step not in after:
        return None
    return (after[graph] - before[graph]) / (after[step] - before[step])
