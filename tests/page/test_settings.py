"""Settings: what is sent, what is remembered, and what becomes of values that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat_page import ChatPage
from page_server import PageServer, Staged, serving
from selenium import webdriver

from ferrum.builder.build import build
from ferrum.runtime.settings import Settings

NUMBERS = {
    "temperature": 0.3,
    "top_p": 0.8,
    "top_k": 7,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "max_tokens": 9,
    "seed": 12,
}
DEFAULTS = {
    "temperature": "0.6",
    "top_p": "0.95",
    "top_k": "20",
    "min_p": "0",
    "repetition_penalty": "1",
    "max_tokens": "1024",
    "seed": "",
}


def values(chat: ChatPage) -> dict[str, str]:
    """What the fields of the numbers show."""
    return {name: str(chat.find(f"#{name}").get_property("value")) for name in DEFAULTS}


def fill_in(chat: ChatPage) -> None:
    """Set everything to something else than its default."""
    chat.click("#open-settings")
    for name, value in NUMBERS.items():
        chat.fill(f"#{name}", str(value))
    chat.fill("#system", "Be brief.")
    chat.click("#thinking")
    chat.click("#formatted")


def test_settings_are_sent_and_the_server_takes_them(chat: ChatPage, server: PageServer) -> None:
    fill_in(chat)
    chat.ask("a question")
    assert not chat.visible("#notice")
    assert chat.shown(".stats").startswith("9 tokens")
    assert server.asked == [
        {
            "model": "tinycode",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "a question"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "chat_template_kwargs": {"enable_thinking": False},
            **NUMBERS,
        }
    ]


def test_without_a_choice_the_defaults_are_sent(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("fine"))
    chat.ask("a question")
    sent = server.asked[0]
    assert {name: sent.get(name) for name in DEFAULTS} == {
        name: float(value) if value else None for name, value in DEFAULTS.items()
    }
    assert sent["chat_template_kwargs"] == {"enable_thinking": True}
    assert [message["role"] for message in sent["messages"]] == ["user"]


def test_a_model_that_can_think_does_so_where_it_is_wanted(
    driver: webdriver.Chrome, sample: Path, tmp_path: Path
) -> None:
    build(sample, tmp_path / "thinker.onnx")
    template = tmp_path / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if enable_thinking %}<think>\n{% endif %}")
    with serving(tmp_path / "thinker.onnx", Settings(threads=1)) as server:
        chat = ChatPage(driver, server.url)
        chat.click("#open-settings")
        chat.fill("#temperature", "0")  # drawn, one answer in fourteen ends its own thinking
        chat.fill("#max_tokens", "20")
        assert chat.ask("def f(x):") == ""
        assert chat.shown("details.reasoning div").strip()
        chat.click("#thinking")
        chat.click("#new-chat")
        assert chat.ask("def f(x):").strip()
        assert chat.all("details.reasoning") == []
        driver.get("about:blank")


def test_the_same_seed_gives_the_same_answer(chat: ChatPage) -> None:
    chat.click("#open-settings")
    chat.fill("#seed", "5")
    chat.fill("#max_tokens", "30")
    first = chat.ask("def f(x):")
    chat.click("#new-chat")
    assert chat.ask("def f(x):") == first


def test_settings_are_remembered_and_can_be_reset(chat: ChatPage) -> None:
    fill_in(chat)
    chat.load()
    assert values(chat) == {name: str(value) for name, value in NUMBERS.items()}
    assert chat.find("#system").get_property("value") == "Be brief."
    assert not chat.find("#thinking").is_selected()
    assert not chat.find("#formatted").is_selected()
    chat.click("#open-settings")
    chat.click("#reset")
    chat.load()
    assert values(chat) == DEFAULTS
    assert chat.find("#system").get_property("value") == ""
    assert chat.find("#thinking").is_selected()
    assert chat.find("#formatted").is_selected()


def test_settings_can_be_closed_again(chat: ChatPage) -> None:
    for phone in (False, True):
        chat.size(390 if phone else 1200, 844, phone=phone)
        chat.click("#open-settings")
        assert chat.visible("#settings")
        chat.click("[aria-label='Close settings']")
        assert not chat.visible("#settings")
        assert chat.find("#open-settings").get_attribute("aria-expanded") == "false"


@pytest.mark.parametrize(
    ("name", "typed", "becomes"),
    [
        ("temperature", "99", "2"),
        ("temperature", "-1", "0"),
        ("temperature", "", "0.6"),
        ("top_p", "0", "0.01"),
        ("top_k", "2.7", "3"),
        ("max_tokens", "0", "1"),
        ("max_tokens", "", ""),
        ("seed", "-5", "0"),
        ("seed", "1e30", "4294967295"),
    ],
)
def test_numbers_are_brought_into_bounds(
    chat: ChatPage, name: str, typed: str, becomes: str
) -> None:
    chat.click("#open-settings")
    chat.fill(f"#{name}", typed)
    assert values(chat)[name] == becomes


@pytest.mark.parametrize(
    "stored",
    [
        "no JSON",
        "null",
        "[]",
        '"text"',
        '{"temperature": "hot", "top_p": null, "top_k": {}, "min_p": [], "seed": "x"}',
        '{"temperature": 1e999, "max_tokens": -7e9, "system": 5, "thinking": "no"}',
    ],
)
def test_whatever_is_stored_the_settings_make_sense(
    chat: ChatPage, server: PageServer, stored: str
) -> None:
    chat.run("localStorage.setItem('ferrum.settings', arguments[0])", stored)
    chat.run("localStorage.setItem('ferrum.theme', arguments[0])", stored)
    chat.run("onpagehide = null; sessionStorage.setItem('ferrum.messages', arguments[0])", stored)
    chat.load()
    chat.ask("a question")
    assert not chat.visible("#notice")
    assert {**values(chat), "max_tokens": "1024"} == DEFAULTS
