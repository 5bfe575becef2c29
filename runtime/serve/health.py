"""Whether the server can take requests, and what it counts: GET /health and GET /metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ferrum.runtime.serve.errors import Draining
from ferrum.runtime.serve.service import Service


async def health(request: Request) -> JSONResponse:
    """200 {"status": "ok"}; 503 with status "draining" (and Retry-After) or "failed"."""
    engine = _service(request).engine
    if engine.failing:
        return JSONResponse({"status": "failed"}, 503)
    if engine.draining:
        return JSONResponse({"status": "draining"}, 503, Draining().headers)
    return JSONResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics where the Accept header asks for that."""
    body, content_type = _service(request).metrics.render(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


routes = [
    Route("/health", health, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
