"""A server's steps on the GPU: all in the engine's own thread, the first one too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cuda_stub_log import Log

from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings

service_module = pytest.importorskip("ferrum.runtime.serve.service")


def test_the_first_step_captures_for_those_that_follow(exported: Path, log: Log) -> None:
    settings = Settings(device="cuda", threads=1, kv_capacity=2048)
    service = service_module.open_service(exported, settings, ServeSettings())
    captured = log.count("capture_begin")
    assert captured > 0

    async def answer() -> None:
        async with service.running():
            params = SamplingParams(max_tokens=2, ignore_eos=True)
            assert len((await service.engine.submit([1], params).finish()).token_ids) == 2

    with service.llm as llm:
        asyncio.run(answer())
        assert llm.session._binding._home._own is None
