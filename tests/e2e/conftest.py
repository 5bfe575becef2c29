"""Fixtures of the tests that run whole models."""

from __future__ import annotations

from pathlib import Path

import pytest
from exports import Exports


@pytest.fixture(scope="session")
def exports(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return Exports(shared_data, tmp_path_factory.mktemp("exports"))
