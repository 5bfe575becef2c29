"""What the server sends with the page, and that the page keeps to it."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from importlib.resources import files
from pathlib import Path
from urllib.request import urlopen

import pytest
from chat_page import ChatPage
from page_server import PageServer, serving
from selenium import webdriver

from ferrum.runtime.settings import Settings

# A script, an image and an event attribute, as an injection would bring them.
INTRUDERS = """
const script = document.createElement("script");
script.textContent = "window.hit = 1";
const image = document.createElement("img");
image.src = arguments[0];
const button = document.createElement("div");
button.innerHTML = "<b onclick='window.hit = 1'>x</b>";
document.body.append(script, image, button);
button.firstChild.click();
"""
PAGE = files("ferrum.runtime.serve") / "page" / "index.html"


def policy(server: PageServer) -> dict[str, list[str]]:
    with urlopen(server.url, timeout=60) as response:
        rules = response.headers["Content-Security-Policy"].split(";")
    return {name: values for name, *values in (rule.split() for rule in rules if rule.strip())}


def hashed(tag: str) -> str:
    """The hash of the page's one block of a kind, as a policy names it."""
    (block,) = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    digest = hashlib.sha256(block.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def test_the_policy_allows_the_pages_own_blocks_and_nothing_else(server: PageServer) -> None:
    rules = policy(server)
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == [hashed("script")]
    assert rules["style-src"] == [hashed("style")]
    assert rules["connect-src"] == ["'self'"]
    assert rules["img-src"] == ["data:"]
    for name in ("base-uri", "form-action", "frame-ancestors"):
        assert rules[name] == ["'none'"]


def test_the_page_asks_for_nothing_but_the_servers_api(chat: ChatPage, server: PageServer) -> None:
    chat.click("#open-settings")
    chat.fill("#max_tokens", "5")
    chat.ask("a question")
    _, requests = chat.logs()
    asked = [url.removeprefix(server.url) for url in requests if not url.startswith("data:")]
    assert asked == ["/", "/v1/models", "/v1/chat/completions"]


def test_a_script_from_elsewhere_does_not_run(chat: ChatPage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/x.png"
        chat.run(INTRUDERS, url)
        chat.until(lambda: chat.run("return document.images[0].complete"))
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert chat.run("return window.hit") is None
    said, _ = chat.logs()
    assert len([line for line in said if "Content Security Policy" in line]) == 3


def test_a_models_name_cannot_be_markup(driver: webdriver.Chrome, export: Path) -> None:
    name = "<img src=x onerror='window.hit = 1'>"
    with serving(export, Settings(threads=1), model_name=name) as server:
        chat = ChatPage(driver, server.url)
        assert chat.shown("#model").startswith(name)
        assert chat.all("#model img, .body img") == []
        assert chat.run("return window.hit") is None
        driver.get("about:blank")
