"""What a server tells of itself at /metrics, as names and numbers."""

from __future__ import annotations

import asyncio

from ferrum.runtime.bench.errors import SideFailed
from ferrum.runtime.bench.serving.client import Ask, send
from ferrum.runtime.bench.serving.server import Server


def metrics(server: Server) -> dict[str, float]:
    """The samples that have no labels."""
    return asyncio.run(read_metrics(server))


async def read_metrics(server: Server) -> dict[str, float]:
    """As `metrics`, beside other requests."""
    answer = await send(server.port, Ask("/metrics", method="GET"))
    if answer.status != 200:
        raise SideFailed(f"[{server.name}] /metrics: status {answer.status}")
    return parse(answer.body.decode())


def parse(text: str) -> dict[str, float]:
    """Prometheus' text format, without comments and what has labels."""
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {words[0]: float(words[1]) for words in lines if len(words) > 1 and "{" not in words[0]}
