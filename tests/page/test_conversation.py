"""Messages, answers as they stream, and what can be done with them."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

from chat_page import ChatPage
from page_server import PageServer, Staged
from selenium.webdriver.common.keys import Keys

CODE = "import os\nimport sys\n"
LONG = "def f():\n" * 20
# A button says "Copied" for a moment, in which a busy machine may not let a test look.
COPIED_FOR_GOOD = "window.setTimeout = () => 0"


def answer_of(server: PageServer, body: dict[str, object]) -> str:
    """What the server says to a chat request without a stream."""
    body = {**body, "stream": False}
    del body["stream_options"]
    request = Request(
        f"{server.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=60) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def test_it_names_the_model(chat: ChatPage) -> None:
    assert chat.shown("#model") == "tinycode · 1,024 tokens of context"
    assert chat.driver.title == "tinycode · ferrum"
    assert chat.find("#prompt").get_attribute("placeholder") == "Message tinycode"


def test_an_answer_is_what_the_model_says(chat: ChatPage, server: PageServer) -> None:
    chat.click("#open-settings")
    chat.fill("#seed", "3")
    chat.fill("#max_tokens", "60")
    chat.click("#formatted")
    shown = chat.ask(CODE)
    assert shown.strip()
    assert shown.strip() == answer_of(server, server.asked[0]).strip()


def test_the_text_comes_before_the_end(slow_chat: ChatPage) -> None:
    slow_chat.send(CODE)
    first = slow_chat.until(lambda: slow_chat.answers and slow_chat.answers[0])
    assert slow_chat.running
    slow_chat.until(lambda: len(slow_chat.answers[0]) > len(first))
    assert slow_chat.running


def test_stop_cancels_the_request_on_the_server(
    slow_chat: ChatPage, slow_server: PageServer
) -> None:
    slow_chat.send(CODE)
    slow_chat.until(lambda: slow_chat.answers and slow_chat.answers[0].strip())
    engine = slow_server.service.engine
    assert engine.running == 1
    slow_chat.click("#send")
    slow_chat.until(lambda: not slow_chat.running)
    slow_chat.until(lambda: engine.idle and engine.running == 0)
    pool = slow_server.service.llm.session.pool
    slow_chat.until(lambda: pool.free == pool.blocks)
    assert slow_chat.answers[0].strip()
    assert "stopped" in slow_chat.shown(".stats")


def test_stopping_before_the_first_token_gives_the_message_back(
    chat: ChatPage, server: PageServer
) -> None:
    server.staged.append(Staged.text("", open_end=True))
    chat.send("a question")
    chat.until(lambda: chat.visible(".waiting"))
    chat.keys(Keys.ESCAPE)
    chat.until(lambda: not chat.running)
    chat.until(lambda: server.left == 1)
    server.left = 0
    assert chat.prompt == "a question"
    assert chat.all("article") == []


def test_it_says_how_fast_and_how_many(chat: ChatPage) -> None:
    chat.click("#open-settings")
    chat.fill("#max_tokens", "300")
    chat.ask(LONG)
    stats = chat.shown(".stats")
    assert stats.startswith("300 tokens at ")
    for part in (" tokens/s · first after ", " · prompt ", "cut off at the token limit"):
        assert part in stats


def test_a_second_turn_finds_its_history_cached(chat: ChatPage, server: PageServer) -> None:
    chat.click("#open-settings")
    chat.fill("#max_tokens", "8")
    chat.click("#formatted")
    first = chat.ask(LONG)
    chat.ask("again")
    roles = [message["role"] for message in server.asked[1]["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert server.asked[1]["messages"][1]["content"].strip() == first.strip()
    assert " cached" in chat.all(".stats")[1].text


def test_thoughts_are_folded_away(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("It is four.", "Two and two. Let me add them."))
    assert chat.ask("2 + 2?") == "It is four."
    details = chat.find("details.reasoning")
    assert details.get_attribute("open") is None
    assert details.text.startswith("Thought for ")
    details.find_element("css selector", "summary").click()
    assert "Let me add them." in details.text
    chat.send("again")
    chat.until(lambda: len(server.asked) == 2)
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "It is four."}


def test_regenerating_asks_the_same_again(chat: ChatPage, server: PageServer) -> None:
    server.staged += [Staged.text("first"), Staged.text("second")]
    chat.ask("a question")
    chat.click(".again")
    chat.until(lambda: chat.answers == ["second"])
    assert server.asked[0]["messages"] == server.asked[1]["messages"]


def test_only_the_last_answer_can_be_regenerated(chat: ChatPage, server: PageServer) -> None:
    server.staged += [Staged.text("first"), Staged.text("second")]
    chat.ask("one")
    chat.ask("two")
    assert [button.is_displayed() for button in chat.all(".again")] == [False, True]


def test_an_edited_message_replaces_what_followed(chat: ChatPage, server: PageServer) -> None:
    server.staged += [Staged.text(text) for text in ("first", "second", "third")]
    chat.ask("one")
    chat.ask("two")
    chat.click("[aria-label='Edit message']")
    assert chat.prompt == "one"
    assert len(chat.all("article.goes")) == 4
    chat.keys(" more")
    chat.keys(Keys.ENTER)
    chat.until(lambda: chat.answers == ["third"])
    assert server.asked[2]["messages"] == [{"role": "user", "content": "one more"}]


def test_what_was_typed_before_an_edit_is_there_after_it(
    chat: ChatPage, server: PageServer
) -> None:
    server.staged += [Staged.text("first"), Staged.text("second")]
    chat.ask("one")
    chat.keys("two")
    chat.click("[aria-label='Edit message']")
    chat.keys(" more", Keys.ENTER)
    chat.until(lambda: chat.answers == ["second"])
    assert chat.prompt == "two"


def test_editing_can_be_given_up_for_what_was_typed_before(
    chat: ChatPage, server: PageServer
) -> None:
    server.staged.append(Staged.text("first"))
    chat.ask("one")
    chat.keys("two")
    chat.click("[aria-label='Edit message']")
    chat.keys(" more", Keys.ESCAPE)
    assert chat.prompt == "two"
    assert chat.all("article.goes") == []
    assert chat.answers == ["first"]


def test_messages_and_code_can_be_copied(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("Look:\n\n```python\nx = 1\n```\n"))
    chat.ask("some code")
    chat.run(COPIED_FOR_GOOD)
    expected = {
        "Copy message": "some code",
        "Copy answer": "Look:\n\n```python\nx = 1\n```\n",
        "Copy code": "x = 1",
    }
    for name, text in expected.items():
        button = chat.find(f"[aria-label='{name}']")
        button.click()
        chat.until(lambda button=button: button.text == "Copied")
        chat.find("#prompt").send_keys(Keys.CONTROL, "v", Keys.NULL)
        assert chat.prompt == text
        chat.find("#prompt").send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE)


def test_copying_works_where_only_the_old_way_does(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("an answer"))
    chat.ask("a question")
    chat.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as plain http
    chat.run(COPIED_FOR_GOOD)
    chat.click("[aria-label='Copy answer']")
    chat.until(lambda: chat.shown("[aria-label='Copy answer']") == "Copied")
    chat.find("#prompt").send_keys(Keys.CONTROL, "v", Keys.NULL)
    assert chat.prompt == "an answer"


def test_a_new_chat_is_empty_and_stops_the_old_one(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("an answer that never", open_end=True))
    chat.send("a question")
    chat.until(lambda: chat.answers and chat.answers[0])
    chat.click("#new-chat")
    chat.until(lambda: server.left == 1)
    server.left = 0
    assert chat.all("article") == []
    assert not chat.running
    assert chat.visible("#welcome")
    server.staged.append(Staged.text("fresh"))
    assert chat.ask("another") == "fresh"
    assert server.asked[1]["messages"] == [{"role": "user", "content": "another"}]


def test_the_conversation_survives_loading_the_page_anew(
    chat: ChatPage, server: PageServer
) -> None:
    server.staged.append(Staged.text("remembered"))
    chat.ask("a question")
    stats = chat.shown(".stats")
    chat.load()
    assert chat.answers == ["remembered"]
    assert chat.shown("article.user .body") == "a question"
    assert chat.shown(".stats") == stats


def test_scrolling_up_stays_there_while_the_answer_grows(slow_chat: ChatPage) -> None:
    slow_chat.size(1200, 300)
    slow_chat.send(LONG)
    at_end = (
        "const t = document.getElementById('transcript');"
        "return t.scrollHeight - t.scrollTop - t.clientHeight < 5 && t.scrollTop > 0"
    )
    slow_chat.until(lambda: slow_chat.answers and slow_chat.answers[0].strip())
    slow_chat.until(lambda: slow_chat.run(at_end))
    slow_chat.run("document.getElementById('transcript').scrollTop = 0")
    slow_chat.until(lambda: slow_chat.visible("#to-end"))
    before = len(slow_chat.answers[0])
    slow_chat.until(lambda: len(slow_chat.answers[0]) > before)
    assert slow_chat.run("return document.getElementById('transcript').scrollTop") == 0
    slow_chat.click("#to-end")
    slow_chat.until(lambda: slow_chat.run(at_end))
    assert not slow_chat.visible("#to-end")
