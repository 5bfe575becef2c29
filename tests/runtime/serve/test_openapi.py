"""The server's own description, and the server held to it by schemathesis."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from ferrum.runtime.serve.openapi import describe
from ferrum.runtime.serve.protocol.answers import ErrorAnswer

if TYPE_CHECKING:
    from conftest import Api

CHECKS = (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)


described = schemathesis.openapi.from_dict(describe(api_key=False))


def answers_as_described(path: str, method: str) -> Callable[..., None]:
    """The test of one operation."""

    @described.include(path=path, method=method.upper()).parametrize()
    @settings(max_examples=50, derandomize=True, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    def test(case: schemathesis.Case, api: Api) -> None:
        if isinstance(case.body, dict) and "/completions" in case.path:
            _make_easy(case.body)
        answer = case.call(base_url=api.url, timeout=60)
        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code in (200, 400, 401, 404, 405, 413, 415)
        if answer.status_code != 200:
            ErrorAnswer.model_validate_json(answer.content)

    return test


# Each has a name of its own: those that schemathesis makes of one function have one id with
# pytest 9.2, of which pytest-xdist runs one test.
for path, methods in describe(api_key=False)["paths"].items():
    for method in methods:
        named = re.sub(r"\W+", "_", f"{method}{path}")
        globals()[f"test_whatever_is_sent_to_{named}_is_answered_as_described"] = (
            answers_as_described(path, method)
        )


def _make_easy(body: dict[str, Any]) -> None:
    """Have answers end soon, which takes nothing from what is tried, and prompts have a token."""
    limits = [name for name in ("max_tokens", "max_completion_tokens") if body.get(name)]
    for name in limits or ["max_tokens"]:
        if body.get(name) is None or (isinstance(body[name], int) and body[name] > 2):
            body[name] = 2
    if body.get("prompt") == "":
        body["prompt"] = "0"


def test_the_description_is_served(api: Api) -> None:
    assert api.get("/openapi.json").json() == describe(api_key=False)


def test_every_route_of_the_server_is_described(api: Api) -> None:
    paths = set(describe(api_key=False)["paths"])
    app_paths = {"/v1/models", "/v1/models/{model}", "/v1/chat/completions", "/v1/completions",
                 "/tokenize", "/detokenize", "/health", "/metrics"}  # fmt: skip
    assert paths == app_paths


def test_a_key_is_described_where_one_is_wanted() -> None:
    description = describe(api_key=True)
    assert description["security"] == [{"key": []}]
    assert description["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert description["paths"]["/health"]["get"]["security"] == []
