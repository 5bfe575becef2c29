"""The sample on a GPU that is not there: see tests/tools/with_cuda_stub.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
from cuda_stub_log import Log

from ferrum.builder.cli import main as build
from ferrum.runtime.llm import LLM
from ferrum.runtime.session import Session

SMALL: dict[str, Any] = {"device": "cuda", "threads": 1, "kv_capacity": 2048}


@pytest.fixture(scope="session", autouse=True)
def stub_libraries() -> Path:
    """The folder of the stand-in libraries."""
    if "CUDA_STUB_LIBRARIES" not in os.environ:
        pytest.skip("no stand-in CUDA libraries -> make test-cuda-stub")
    assert "CUDAExecutionProvider" in ort.get_available_providers()
    return Path(os.environ["CUDA_STUB_LIBRARIES"])


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Callable[[str, str], Path]:
    """The .onnx of the sample with activations of that type and weights in that layout."""

    @cache
    def export_as(dtype: str, layout: str) -> Path:
        output = tmp_path_factory.mktemp("sample") / "tinycode.onnx"
        options = ["--weights", "copy", "--quiet", "--dtype", dtype, "--layout", layout]
        assert build([str(sample), str(output), *options]) == 0
        return output

    return export_as


@pytest.fixture(scope="session")
def exported(export: Callable[[str, str], Path]) -> Path:
    """As ferrum-build exports it if told nothing."""
    return export("f32", "file")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """The calls of this test."""
    monkeypatch.setenv("CUDA_STUB_LOG", str(tmp_path / "calls.log"))
    return Log(tmp_path / "calls.log")


@pytest.fixture
def open_llm(export: Callable[[str, str], Path]) -> Iterator[Callable[..., LLM]]:
    """Opens the sample on the GPU, with settings over small defaults."""
    opened: list[LLM] = []

    def open_model(dtype: str = "f32", layout: str = "file", **settings: object) -> LLM:
        opened.append(LLM(export(dtype, layout), **{**SMALL, **settings}))
        return opened[-1]

    yield open_model
    for llm in opened:
        llm.close()


@pytest.fixture
def session(open_llm: Callable[..., LLM]) -> Session:
    """The session of such a model."""
    return open_llm().session
