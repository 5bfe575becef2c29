"""/health and /metrics over HTTP, as load balancers and Prometheus ask."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgi import Answer, ask

from ferrum.runtime.llm import LLM
from ferrum.runtime.serve.app import create_app
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.settings import ServeSettings


def service(llm: LLM, **settings: Any) -> Service:
    return Service.of(llm, ServeSettings(**settings))


def health(service: Service) -> tuple[int, Any]:
    answer = ask(create_app(service), "/health")
    assert ("retry-after" in answer.headers) == (b"draining" in answer.body)
    return answer.status, json.loads(answer.body)


def test_a_server_that_takes_requests_is_ok(sample_llm: LLM) -> None:
    assert health(service(sample_llm)) == (200, {"status": "ok"})


def test_one_that_ends_says_so(sample_llm: LLM) -> None:
    ending = service(sample_llm)
    asyncio.run(ending.engine.drain())
    assert health(ending) == (503, {"status": "draining"})


def test_one_whose_model_no_longer_runs_says_no_more_than_that(
    sample_llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = service(sample_llm)
    monkeypatch.setattr(failed.engine, "failed", True)
    assert health(failed) == (503, {"status": "failed"})


def test_health_needs_no_key_and_metrics_do(sample_llm: LLM) -> None:
    app = create_app(service(sample_llm, api_key="k"))
    assert ask(app, "/health").status == 200
    assert ask(app, "/metrics").status == 401

    def metrics(accept: str) -> Answer:
        return ask(app, "/metrics", headers={"authorization": "Bearer k", "accept": accept})

    plain = metrics("*/*")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert b"ferrum_blocks_free " in plain.body
    assert b'ferrum_http_responses_total{status="401"} 1.0' in plain.body
    other = metrics("application/openmetrics-text; version=1.0.0")
    assert other.headers["content-type"].startswith("application/openmetrics-text")
