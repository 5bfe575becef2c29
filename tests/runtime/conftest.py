"""The exports that tests of the runtime run: a tiny one in standard ops, and the sample."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_export

from ferrum.builder.cli import main as build
from ferrum.runtime.llm import LLM
from ferrum.runtime.session import Session
from ferrum.runtime.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests sets nothing."""
    for name in [name for name in os.environ if name.startswith("FERRUM_")]:
        if name not in ("FERRUM_LIBRARY", "FERRUM_SHARED_DATA"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .onnx of the tiny export."""
    return tiny_export.write(tmp_path_factory.mktemp("tiny"))


TINY = {"kernels": "reference", "threads": 1, "block_size": 4}


@pytest.fixture
def tiny_session(tiny: Path) -> Callable[..., Session]:
    """Opens sessions of the tiny export, with settings over small defaults."""
    return lambda **settings: Session.open(tiny, Settings(**{**TINY, **settings}))


@pytest.fixture
def tiny_llm(tiny: Path) -> Iterator[Callable[..., LLM]]:
    """Opens models of the tiny export, with settings over small defaults."""
    opened: list[LLM] = []

    def open_model(**settings: object) -> LLM:
        opened.append(LLM(tiny, **{**TINY, **settings}))
        return opened[-1]

    yield open_model
    for llm in opened:
        llm.close()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The .onnx of the sample, exported by ferrum-build."""
    output = tmp_path_factory.mktemp("sample") / "tinycode.onnx"
    assert build([str(sample), str(output), "--weights", "copy", "--quiet"]) == 0
    return output
