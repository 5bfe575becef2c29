"""These tests need llama-cpp-python: `make test-bench` installs it and runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrum.builder.build import build


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The .onnx of the sample."""
    output = tmp_path_factory.mktemp("sample") / "tinycode.onnx"
    build(sample, output)
    return output
