"""GET /v1/models and /v1/models/{model}."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from ferrum.runtime.serve.intake import check_model, service_of
from ferrum.runtime.serve.service import Service


async def models(request: Request) -> JSONResponse:
    """The models that are served."""
    return JSONResponse({"object": "list", "data": [_card(service_of(request))]})


async def model(request: Request) -> JSONResponse:
    """One of them."""
    service = service_of(request)
    check_model(service, request.path_params["model"])
    return JSONResponse(_card(service))


def _card(service: Service) -> dict[str, Any]:
    return {
        "id": service.model_name,
        "object": "model",
        "created": service.created,
        "owned_by": "ferrum",
        "max_model_len": service.llm.session.longest(),
    }
