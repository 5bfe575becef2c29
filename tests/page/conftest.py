"""A Chromium for all tests of the page, and servers of the sample model for it to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_page import ChatPage, browser
from page_server import PageServer, serving
from selenium import webdriver

from ferrum.builder.build import build
from ferrum.runtime.settings import Settings

# Reference bodies of the ops take so long that an answer is still being written when a test has
# seen its beginning.
SLOW = Settings(kernels="reference", threads=1, max_sequences=1)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    for name in [name for name in os.environ if name.startswith("FERRUM_")]:
        if name not in ("FERRUM_LIBRARY", "FERRUM_SHARED_DATA"):
            del os.environ[name]


@pytest.fixture(scope="session")
def driver() -> Iterator[webdriver.Chrome]:
    with browser() as driver:
        yield driver


@pytest.fixture(scope="session")
def export(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "tinycode.onnx"
    build(sample, path)
    return path


@pytest.fixture(scope="session")
def server(export: Path) -> Iterator[PageServer]:
    with serving(export, Settings(threads=1)) as server:
        yield server


@pytest.fixture
def chat(driver: webdriver.Chrome, server: PageServer) -> Iterator[ChatPage]:
    """The page, freshly opened; the console must stay silent and every request on the origin."""
    server.staged.clear()
    server.asked.clear()
    yield from opened(driver, server)


@pytest.fixture
def slow_server(export: Path) -> Iterator[PageServer]:
    with serving(export, SLOW, max_queue=0) as server:
        yield server


@pytest.fixture
def slow_chat(driver: webdriver.Chrome, slow_server: PageServer) -> Iterator[ChatPage]:
    """The page of a server that takes its time, for one person."""
    yield from opened(driver, slow_server)


@pytest.fixture
def locked_server(export: Path) -> Iterator[PageServer]:
    with serving(export, Settings(threads=1), api_key="open-sesame") as server:
        yield server


@pytest.fixture
def locked_chat(driver: webdriver.Chrome, locked_server: PageServer) -> Iterator[ChatPage]:
    """The page of a server that wants a key."""
    yield from opened(driver, locked_server, {401})


def opened(
    driver: webdriver.Chrome, server: PageServer, refused: set[int] | None = None
) -> Iterator[ChatPage]:
    """The page of a server; afterwards, what the browser has on record is checked."""
    chat = ChatPage(driver, server.url)
    chat.refused |= refused or set()
    yield chat
    said, requests = chat.logs()
    assert said == []
    assert {url for url in requests if not url.startswith(("data:", f"{server.url}/"))} == set()
