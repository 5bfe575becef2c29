"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# No test asserts a time, Hypothesis' 200 ms per example included.
settings.register_profile("ferrum", deadline=None)
settings.load_profile("ferrum")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal() -> None:
    """A suite started in the background has Ctrl-C and hang-ups ignored, and so would every
    process that its tests start, which must end on them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tests with one id pytest-xdist runs one, and says nothing of the others."""
    twice = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if twice:
        raise pytest.UsageError(
            f"several tests have the id {twice[0]} -> an id of its own for each"
        )
