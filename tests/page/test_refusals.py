"""When the server refuses or fails: plain words, and the typed text stays."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path

import pytest
from chat_page import ChatPage
from page_server import PageServer, Staged, serving
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from ferrum.runtime.settings import Settings


def refusal(chat: ChatPage, text: str) -> str:
    """Send what will be refused; what the page says."""
    chat.send(text)
    chat.until(lambda: chat.visible("#notice") and not chat.running)
    return chat.shown("#notice p")


def test_a_key_is_asked_for_and_kept_for_the_tab(locked_chat: ChatPage) -> None:
    chat = locked_chat
    chat.until(lambda: chat.visible("#key-form"))
    assert chat.focused == "key"
    assert chat.find("#key").get_attribute("type") == "password"
    chat.keys("wrong", Keys.ENTER)
    chat.until(lambda: "did not accept" in chat.shown("#key-note"))
    chat.fill("#key", "schlüssel")
    chat.find("#key").send_keys(Keys.ENTER)
    chat.until(lambda: "ASCII" in chat.shown("#key-note"))
    chat.fill("#key", "open-sesame")
    chat.find("#key").send_keys(Keys.ENTER)
    chat.until(lambda: not chat.visible("#key-form"))
    assert chat.focused == "prompt"
    assert "open-sesame" not in chat.run("return document.documentElement.outerHTML")
    chat.click("#open-settings")
    chat.fill("#max_tokens", "4")
    chat.ask("a question")
    assert len(chat.answers) == 1
    chat.load()
    assert not chat.visible("#key-form")
    assert chat.shown("#model").startswith("tinycode")
    assert chat.run("return JSON.stringify(localStorage)").count("open-sesame") == 0


def test_a_key_that_is_no_longer_good_is_asked_for_without_losing_the_message(
    locked_chat: ChatPage,
) -> None:
    chat = locked_chat
    chat.until(lambda: chat.visible("#key-form"))
    chat.send("a question")
    chat.until(lambda: not chat.running and chat.visible("#key-form"))
    assert chat.prompt == "a question"
    assert chat.all("article") == []


def test_a_prompt_that_does_not_fit(chat: ChatPage) -> None:
    chat.refused.add(400)
    text = "x = [1, 2, 3, 4, 5, 6, 7, 8, 9]; " * 120
    said = refusal(chat, text)
    assert said.startswith("This conversation is too long: shorten the message or start a new chat")
    assert "1024" in said or "1,024" in said
    assert chat.prompt == text
    assert chat.all("article") == []


def test_a_full_queue(slow_chat: ChatPage, slow_server: PageServer) -> None:
    slow_chat.refused.add(429)
    host = slow_server.url.removeprefix("http://")
    other = http.client.HTTPConnection(host, timeout=60)
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True})
    other.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    assert other.getresponse().status == 200
    said = refusal(slow_chat, "a question")
    assert said.startswith("The server is busy: too many requests are waiting. Try again in ")
    assert slow_chat.prompt == "a question"
    other.close()
    slow_chat.until(lambda: slow_server.service.engine.idle)
    slow_chat.keys(Keys.ENTER)
    slow_chat.until(lambda: slow_chat.answers and slow_chat.answers[0].strip())
    assert not slow_chat.visible("#notice")


def test_a_server_that_shuts_down(slow_chat: ChatPage, slow_server: PageServer) -> None:
    slow_chat.refused.add(503)
    slow_server.drain()
    said = refusal(slow_chat, "a question")
    assert said.startswith("The server takes no requests now. Try again in 10 s.")
    assert slow_chat.prompt == "a question"


def test_a_server_that_is_gone(driver: webdriver.Chrome, export: Path) -> None:
    with serving(export, Settings(threads=1)) as server:
        chat = ChatPage(driver, server.url)
    assert refusal(chat, "a question") == "The server cannot be reached."
    assert chat.prompt == "a question"
    driver.get("about:blank")


def test_a_server_that_comes_back(chat: ChatPage, server: PageServer) -> None:
    chat.run("model = ''; $('model').textContent = ''")  # as when it was away at first
    server.staged.append(Staged.text("here again"))
    assert chat.ask("a question") == "here again"
    assert "model" not in server.asked[0]
    chat.until(lambda: chat.shown("#model").startswith("tinycode"))


STATUSES = {
    400: ("", "The server refused this request: no reason given"),
    413: ("", "That is more text than the server takes."),
    500: ("", "The server could not answer: status 500."),
    502: ("<html>a proxy's page</html>", "The server could not answer: status 502."),
    504: (
        '{"error": {"message": "too slow"}}',
        "The server took too long and gave up. (too slow)",
    ),
}


@pytest.mark.parametrize("status", STATUSES)
def test_other_refusals(chat: ChatPage, server: PageServer, status: int) -> None:
    chat.refused.add(status)
    body, expected = STATUSES[status]
    server.staged.append(Staged(status=status, body=body))
    assert refusal(chat, "a question") == expected
    assert chat.prompt == "a question"
    chat.click("#close-notice")
    assert not chat.visible("#notice")


def test_a_refused_field_is_named(chat: ChatPage, server: PageServer) -> None:
    chat.refused.add(400)
    chat.run("settings.top_p = 7")  # past the page's own bounds
    said = refusal(chat, "a question")
    assert said.startswith("The server refused this request: ")
    assert "top_p" in said


def test_an_answer_that_breaks_off_keeps_what_came(chat: ChatPage, server: PageServer) -> None:
    started = Staged.text("half an answ", open_end=True).events
    server.staged.append(Staged((*started, {"error": {"message": "a step failed"}})))
    assert chat.ask("a question") == "half an answ"
    assert chat.shown(".failed") == "The answer broke off: a step failed"
    server.staged.append(Staged(started))
    chat.click(".again")
    chat.until(lambda: len(server.asked) == 2 and not chat.running)
    assert chat.shown(".failed") == "The answer broke off: the connection ended."
    server.staged.append(Staged.text("whole"))
    chat.click(".again")
    chat.until(lambda: chat.answers == ["whole"])
    assert chat.all(".failed") == []


def test_a_refusal_to_regenerate_keeps_the_old_answer(chat: ChatPage, server: PageServer) -> None:
    chat.refused.add(500)
    server.staged += [Staged.text("old"), Staged(status=500)]
    chat.ask("a question")
    chat.click(".again")
    chat.until(lambda: chat.visible("#notice"))
    assert chat.answers == ["old"]
    assert chat.prompt == ""


def test_a_refusal_of_an_edit_keeps_edit_and_conversation(
    chat: ChatPage, server: PageServer
) -> None:
    chat.refused.add(500)
    server.staged += [Staged.text("old"), Staged(status=500), Staged.text("new")]
    chat.ask("one")
    chat.click("[aria-label='Edit message']")
    chat.keys(" more", Keys.ENTER)
    chat.until(lambda: chat.visible("#notice"))
    assert chat.answers == ["old"]
    assert chat.prompt == "one more"
    assert chat.visible("#editing")
    chat.keys(Keys.ENTER)
    chat.until(lambda: chat.answers == ["new"])
    assert [body.text for body in chat.all("article.user .body")] == ["one more"]


def test_what_was_typed_in_the_meantime_is_kept_too(chat: ChatPage, server: PageServer) -> None:
    chat.refused.add(500)
    goes_on = threading.Event()
    server.staged.append(Staged(status=500, after=goes_on))
    chat.send("one")
    chat.find("#prompt").send_keys("two")
    goes_on.set()
    chat.until(lambda: chat.visible("#notice"))
    assert chat.prompt == "one\ntwo"
