"""The server's application: which path is answered by what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Route

from ferrum.runtime.serve import health
from ferrum.runtime.serve.chat import chat_completions
from ferrum.runtime.serve.chat_page import ChatPage
from ferrum.runtime.serve.completions import completions
from ferrum.runtime.serve.exception_handlers import exception_handlers
from ferrum.runtime.serve.middleware import middleware
from ferrum.runtime.serve.models import model, models
from ferrum.runtime.serve.openapi import OpenApi
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.tokenize import detokenize, tokenize


def create_app(service: Service) -> Starlette:
    """An application that answers with a service's model, whose engine runs in its lifespan."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = Starlette(
        routes=[*_routes(service), *health.routes],
        middleware=middleware(service.settings, service.metrics.response, service.engine.closing),
        exception_handlers=exception_handlers,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a path that does not exist is 404, as any other
    app.state.service = service
    return app


def _routes(service: Service) -> list[Route]:
    openapi = OpenApi(api_key=service.settings.api_key is not None)
    page = [Route("/", ChatPage().__call__, methods=["GET"])] if service.settings.page else []
    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{model:path}", model, methods=["GET"]),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        Route("/openapi.json", openapi.__call__, methods=["GET"]),
        *page,
    ]
