"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the sample models and their reference numbers, beside the checkout."""
    folder = Path(os.environ.get("FERRUM_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "reference.json").exists():
        pytest.fail(f"{folder} lacks the reference data; set FERRUM_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The sample model that the project carries."""
    return ROOT / "models" / "samples" / "tinycode-Q4_K_M.gguf"
