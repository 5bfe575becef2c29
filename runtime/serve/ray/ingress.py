"""The ingress: reads a request, finds its conversation's replica, and passes the answer on.

It has no model and computes nothing, so that requests wait here, where every replica can still take
them, and outlive a replica: until an answer has begun, its request is sent to another one.
"""

from __future__ import annotations

from typing import Any

from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ferrum.runtime.serve.exception_handlers import exception_handlers
from ferrum.runtime.serve.middleware import middleware
from ferrum.runtime.serve.ray.answer import Answer
from ferrum.runtime.serve.ray.exchange import HttpRequest
from ferrum.runtime.serve.ray.metrics import merge
from ferrum.runtime.serve.ray.replica import State
from ferrum.runtime.serve.settings import ServeSettings

_PATIENCE = 5.0  # seconds for replicas to tell how they are


class Ingress:
    """The deployment `Ingress`: an ASGI application before the replicas."""

    def __init__(self, engine: DeploymentHandle[Any], settings: ServeSettings) -> None:
        self._engine, self._settings = engine, settings

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray, once."""
        app = Starlette(
            routes=[
                Route("/health", self.health, methods=["GET"]),
                Route("/metrics", self.metrics, methods=["GET"]),
                Mount("/", app=self.forward),
            ],
            middleware=middleware(self._settings, lambda _: None),
            exception_handlers=exception_handlers,
        )
        return _Unprefixed(app)

    async def health(self, _: Request) -> JSONResponse:
        """200 while there is a replica that can answer."""
        well = [state for state in await self._states() if not state.failing]
        if not well:
            return JSONResponse({"status": "failed", "replicas": 0}, 503)
        return JSONResponse({"status": "ok", "replicas": len(well)})

    async def metrics(self, _: Request) -> Response:
        """All replicas' metrics."""
        texts = {state.replica: state.metrics for state in await self._states()}
        return Response(merge(texts), media_type="text/plain; version=0.0.4")

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have a replica answer."""
        body = await Request(scope, receive).body()
        answer = Answer(self._engine, HttpRequest.of(scope, body))
        try:
            await answer.begin(self._settings.request_timeout)
            await answer.send(send)
        finally:
            answer.cancel()

    async def _states(self) -> list[State]:
        """Of the replicas that tell."""
        try:
            answers = await self._engine.broadcast("state").results_async(
                timeout_s=_PATIENCE, return_exceptions=True
            )
        except (TimeoutError, DeploymentUnavailableError):
            return []
        return [answer for answer in answers if isinstance(answer, State)]


class _Unprefixed:
    """An application that does not know under which prefix Ray serves it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
            scope = {**scope, "root_path": "", "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)
