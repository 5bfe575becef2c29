"""A request on its way through the replicas: sent to another one until its answer has begun."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray.exceptions import ObjectLostError, RayActorError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from starlette.types import Message, Send

from ferrum.runtime.serve.errors import ApiError, QueueFull, TimeLimit
from ferrum.runtime.serve.ray.exchange import HttpRequest
from ferrum.runtime.serve.ray.prefix_key import prefix_key
from ferrum.runtime.serve.sse import error_event

_log = logging.getLogger("ray.serve")
# Replicas on which a request may have been when they died. It may be what they died of.
_MOST_DEATHS = 3
_LOST = (RayActorError, WorkerCrashedError, ObjectLostError)
_RETRY_AFTER = 5  # seconds, for clients; about what a replica takes to start


class NoReplica(ApiError):
    """No replica can take the request, and none is on its way."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "no replica of the model runs -> try again in a while",
            code="no_replica",
            headers={"Retry-After": str(_RETRY_AFTER)},
        )


class ReplicaDied(ApiError):
    """The answer's replica is gone, and with it the rest of the answer."""

    def __init__(self) -> None:
        super().__init__(
            500, "the replica that computed this answer has died -> send the request again",
            code="replica_died",
        )  # fmt: skip


class Answer:
    """A request on its way to its answer."""

    def __init__(self, engine: DeploymentHandle[Any], request: HttpRequest) -> None:
        self._request = request
        self._engine = engine.options(
            method_name="respond", stream=True, session_id=prefix_key(request.path, request.body)
        )
        self._stream: DeploymentResponseGenerator[list[Message]] | None = None
        self._begun: list[Message] = []
        self._live = False  # whether there is something to cancel

    async def begin(self, timeout: float) -> None:
        """Wait for the answer's beginning, on one replica after another where they die.

        ApiError where there is none, or not within `timeout` seconds (0: however long it takes).
        """
        try:
            await asyncio.wait_for(self._begin(), timeout or None)
        except asyncio.TimeoutError:
            raise TimeLimit(timeout) from None

    async def send(self, send: Send) -> None:
        """Pass the answer on; where its replica dies, an event stream ends with an error event.

        ReplicaDied where nothing can be said in the midst of an answer.
        """
        assert self._stream is not None
        try:
            for message in self._begun:
                await send(message)
            async for batch in self._stream:
                for message in batch:
                    await send(message)
            self._live = False
        except _LOST:
            self._live = False
            _log.warning("a replica has died in the midst of an answer")
            if not _is_event_stream(self._begun):
                raise ReplicaDied from None
            event = error_event(ReplicaDied())
            await send({"type": "http.response.body", "body": event, "more_body": False})

    def cancel(self) -> None:
        """Have the replica give up what it has not sent."""
        if self._stream is not None and self._live:
            self._stream.cancel()

    async def _begin(self) -> None:
        for _ in range(_MOST_DEATHS):
            try:
                await self._ask()
                return
            except _LOST:
                _log.warning("a replica has died before an answer began; asking another")
            except BackPressureError as error:
                waiting: int = error.args[0]
                raise QueueFull(waiting, _RETRY_AFTER) from None
            except DeploymentUnavailableError:
                raise NoReplica from None
        raise ApiError(
            500,
            f"{_MOST_DEATHS} replicas have died while they had this request; it goes to no other",
            code="replicas_died",
        )

    async def _ask(self) -> None:
        self._stream, self._live = self._engine.remote(self._request), True
        try:
            self._begun = await self._stream.__anext__()
        except Exception:
            self._live = False
            raise


def _is_event_stream(messages: list[Message]) -> bool:
    headers = [header for message in messages for header in message.get("headers", ())]
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )
