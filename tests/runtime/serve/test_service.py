"""A model from its file to one that is served, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ferrum.runtime.artifact import ArtifactError
from ferrum.runtime.cache_file import CacheFileError
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.serve.errors import Draining
from ferrum.runtime.serve.service import Service, open_service
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings

SETTINGS = Settings(kv_capacity=1024)
PROMPT = list(range(40, 140))
PARAMS = SamplingParams(max_tokens=3)


def test_a_service_runs_for_a_block_and_no_longer(exported: Path) -> None:
    service = open_service(exported, SETTINGS, ServeSettings())

    async def test() -> None:
        async with service.running():
            done = await service.engine.submit(PROMPT, PARAMS).finish()
            assert len(done.token_ids) == 3
            left = service.engine.submit(PROMPT, SamplingParams(max_tokens=800))
        assert left.ended
        assert service.llm.engine.idle
        with pytest.raises(Draining):
            service.engine.submit(PROMPT, PARAMS)

    with service.llm:
        asyncio.run(test())


def test_the_model_is_called_as_its_file_or_as_one_likes(sample_llm: LLM) -> None:
    assert Service.of(sample_llm, ServeSettings()).model_name == "tinycode"
    assert Service.of(sample_llm, ServeSettings(model_name="mine")).model_name == "mine"


def test_a_cache_file_is_restored_where_there_is_one(exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.cache"
    serve = ServeSettings(cache_file=file)
    with open_service(exported, SETTINGS, serve).llm as llm:
        assert llm.session.pool.cached == 0
        llm.generate(PROMPT, PARAMS)
        llm.save_cache(file)
    with open_service(exported, SETTINGS, serve).llm as llm:
        assert llm.session.pool.cached == 3


def test_the_cache_file_of_another_model_is_refused(
    exported: Path, tiny: Path, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.cache"
    with LLM(tiny, kernels="reference", threads=1) as llm:
        llm.generate([1] * 80, PARAMS)
        llm.save_cache(file)
    with pytest.raises(CacheFileError) as error:
        open_service(exported, SETTINGS, ServeSettings(cache_file=file))
    assert "\n" not in str(error.value)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ArtifactError):
        open_service(Path("nowhere.onnx"), SETTINGS, ServeSettings())
