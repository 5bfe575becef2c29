"""GET /openapi.json: the server's own description, from the models that requests are read by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse

from ferrum import __version__
from ferrum.runtime.serve.protocol.answers import ErrorAnswer, HealthAnswer, ModelCard, ModelList
from ferrum.runtime.serve.protocol.chat import ChatCompletion, ChatCompletionChunk, ChatRequest
from ferrum.runtime.serve.protocol.completions import (
    Completion,
    CompletionChunk,
    CompletionRequest,
)
from ferrum.runtime.serve.protocol.tokens import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
)

_ABOUT = """An exported model as OpenAI's clients expect it.

Fields, ranges and defaults are OpenAI's: temperature 1, top_p 1, n 1, and for /v1/completions 16
tokens. Fields marked as extensions have vLLM's names. A field that is not described is refused by
its name; one that OpenAI's clients send and that has no effect here says so. null is as good as
leaving a field out.
"""
_MODELS: tuple[type[BaseModel], ...] = (
    ChatRequest, ChatCompletion, ChatCompletionChunk,
    CompletionRequest, Completion, CompletionChunk,
    TokenizeRequest, TokenizeAnswer, DetokenizeRequest, DetokenizeAnswer,
    ModelList, ModelCard, HealthAnswer, ErrorAnswer,
)  # fmt: skip
_REFUSALS = {
    400: "the request is wrong; param names the field",
    401: "an API key is wanted",
    403: "the server is not to be asked by this name",
    404: "no such path, or model",
    408: "the request's body did not come in time",
    413: "the body is too large",
    415: "the body is not application/json",
    429: "too many requests wait; see Retry-After",
    500: "the server failed; its log says why",
    503: "the server shuts down, or cannot run the model; see Retry-After",
    504: "the time limit was over before the answer began",
}


class OpenApi:
    """The description as an endpoint."""

    def __init__(self, *, api_key: bool) -> None:
        """`api_key` says whether the server wants one."""
        self._description = describe(api_key=api_key)

    async def __call__(self, request: Request) -> JSONResponse:
        """The description."""
        return JSONResponse(self._description)


def describe(*, api_key: bool) -> dict[str, Any]:
    """The description of the API, in OpenAPI 3.2, the first that knows event streams."""
    _, schemas = models_json_schema(
        [(model, "validation") for model in _MODELS],
        ref_template="#/components/schemas/{model}",
    )
    components: dict[str, Any] = {"schemas": schemas["$defs"]}
    description: dict[str, Any] = {
        "openapi": "3.2.0",
        "info": {"title": "ferrum", "version": __version__, "description": _ABOUT},
        "paths": _paths(),
        "components": components,
    }
    if api_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"key": []}]
    return description


def _paths() -> dict[str, Any]:
    by_id = _get("One of the models.", ModelCard, refusals=(404,))
    by_id["parameters"] = [
        {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    return {
        "/v1/models": {"get": _get("The models that are served.", ModelList)},
        "/v1/models/{model}": {"get": by_id},
        "/v1/chat/completions": {
            "post": _post(
                "Answer a conversation.", ChatRequest, ChatCompletion, ChatCompletionChunk
            )
        },
        "/v1/completions": {
            "post": _post("Continue texts.", CompletionRequest, Completion, CompletionChunk)
        },
        "/tokenize": {
            "post": _post("Tokens of a text or conversation.", TokenizeRequest, TokenizeAnswer)
        },
        "/detokenize": {"post": _post("Text of tokens.", DetokenizeRequest, DetokenizeAnswer)},
        "/health": {"get": _health()},
        "/metrics": {"get": _metrics()},
    }


def _get(summary: str, answer: type[BaseModel], refusals: Sequence[int] = ()) -> dict[str, Any]:
    return {"summary": summary, "responses": {**_success(answer), **_refused(401, 403, *refusals)}}


def _post(
    summary: str,
    body: type[BaseModel],
    answer: type[BaseModel],
    chunk: type[BaseModel] | None = None,
) -> dict[str, Any]:
    success = _success(answer)
    if chunk is not None:
        success["200"]["content"]["text/event-stream"] = {"itemSchema": _event(chunk)}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {**success, **_refused(*_REFUSALS)},
    }


def _event(chunk: type[BaseModel]) -> dict[str, Any]:
    """With stream: events, an error where the stream fails or else [DONE] the last of them."""
    news = {"anyOf": [_ref(chunk), _ref(ErrorAnswer)]}
    data = {"anyOf": [
        {"const": "[DONE]"},
        {"type": "string", "contentMediaType": "application/json", "contentSchema": news},
    ]}  # fmt: skip
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _health() -> dict[str, Any]:
    responses = _success(HealthAnswer)
    responses["503"] = {**responses["200"], "description": "draining or failed"}
    return {"summary": "Whether the server takes requests.", "responses": responses, "security": []}


def _metrics() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "summary": "Counters in Prometheus' text format.",
        "responses": {"200": {"description": "success", "content": text}, **_refused(401, 403)},
    }


def _success(answer: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(answer)}}
    return {"200": {"description": "success", "content": content}}


def _refused(*statuses: int) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(ErrorAnswer)}}
    return {
        str(status): {"description": _REFUSALS[status], "content": content} for status in statuses
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
