"""One replica: a model in a process of its own that answers what an ingress hands on."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import ray
from ray import serve
from starlette.types import Message

from ferrum.runtime.serve.ray.exchange import Exchange, HttpRequest
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings


@dataclass(frozen=True)
class State:
    """What a replica tells of itself."""

    replica: str
    node: str
    process: int  # its id, on that node
    failing: bool
    metrics: str  # in Prometheus' text format


class Replica:
    """The deployment `Engine`: what ferrum-serve runs, without a port of its own."""

    def __init__(self, model: str, settings: Settings, serve_settings: ServeSettings) -> None:
        """Load the model and run a step of it: Ray sends requests when this has returned.

        Without `threads` it takes as many as Ray has set CPUs aside for it.
        """
        # Imported here: whoever routes to replicas imports this file and has no use for a model.
        from ferrum.runtime.serve.app import create_app
        from ferrum.runtime.serve.service import open_service

        context = ray.get_runtime_context()
        self._node = context.get_node_id()
        self._replica = serve.get_replica_context().replica_id.unique_id
        threads = settings.threads or max(1, int(context.get_assigned_resources().get("CPU", 1)))
        self._service = open_service(model, settings.but(threads=threads), serve_settings)
        self._app = create_app(self._service)
        # What is there now stays: the collector, which stops every thread, need not look at it.
        gc.collect()
        gc.freeze()
        self._service.engine.start()  # Ray constructs on the event loop that the requests come on

    async def respond(self, request: HttpRequest) -> AsyncIterator[list[Message]]:
        """The answer's ASGI messages, in batches; nothing before the answer has begun.

        Cancelled when the client has gone, which ends the request.
        """
        async for batch in Exchange(self._app, request).batches():
            yield batch

    def state(self) -> State:
        """How it is, and what it has counted."""
        metrics = self._service.metrics.text().decode()
        failing = self._service.engine.failing
        return State(self._replica, self._node, os.getpid(), failing, metrics)

    def check_health(self) -> None:
        """Ray replaces a replica where this raises."""
        if self._service.engine.failing:
            raise RuntimeError(f"[replica {self._replica}] the model no longer runs")

    def __del__(self) -> None:
        """Ray calls it when the replica's last request is done, or its time is up."""
        service = self.__dict__.pop("_service", None)
        if service is not None:
            service.engine.stop()
            service.lanes.close()
            service.llm.close()
