"""Everything by keyboard alone, and what a screen reader is told."""

from __future__ import annotations

from chat_page import ChatPage
from page_server import PageServer, Staged
from selenium.webdriver.common.keys import Keys

ESCAPE, TAB, ENTER, SPACE = Keys.ESCAPE, Keys.TAB, Keys.ENTER, Keys.SPACE
# Whether the focus can be seen: on the element itself or on the frame of the message box.
OUTLINED = """
const element = document.activeElement;
const drawn = element.id === "prompt" ? element.parentElement : element;
const { outlineStyle, outlineWidth } = getComputedStyle(drawn);
return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
"""


def tabbed(chat: ChatPage, presses: int) -> list[str]:
    """What gets the focus, press by press; each is seen to have it."""
    order = []
    for _ in range(presses):
        chat.keys(TAB)
        order.append(chat.focused)
        assert chat.run(OUTLINED), f"the focus on {order[-1]} cannot be seen"
    return order


def test_typing_can_begin_at_once(chat: ChatPage) -> None:
    assert chat.focused == "prompt"
    assert chat.run(OUTLINED)


def test_enter_sends_and_shift_enter_starts_a_line(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("an answer"))
    chat.keys("one")
    chat.shifted(ENTER)
    chat.keys("two")
    assert chat.prompt == "one\ntwo"
    chat.keys(ENTER)
    chat.until(lambda: chat.answers == ["an answer"] and not chat.running)
    assert server.asked[0]["messages"][0]["content"] == "one\ntwo"
    assert chat.prompt == ""
    assert chat.focused == "prompt"


def test_enter_sends_nothing_that_is_empty_or_being_composed(
    chat: ChatPage, server: PageServer
) -> None:
    chat.keys(ENTER, " ", ENTER)
    chat.run("setPrompt('かな')")
    chat.run(
        "$('prompt').dispatchEvent(new KeyboardEvent('keydown',"
        "{key: 'Enter', isComposing: true, bubbles: true}))"
    )
    assert chat.prompt == "かな"
    assert server.asked == []


def test_escape_stops(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("an answer", open_end=True))
    chat.keys("a question", ENTER)
    chat.until(lambda: chat.answers == ["an answer"])
    chat.keys("what comes next", ENTER)  # not while an answer is on its way
    chat.keys(ESCAPE)
    chat.until(lambda: server.left == 1 and not chat.running)
    server.left = 0
    assert chat.prompt == "what comes next"
    assert len(server.asked) == 1


def test_the_focus_goes_through_the_page_in_reading_order(
    chat: ChatPage, server: PageServer
) -> None:
    server.staged.append(Staged.text("text\n\n```\ncode\n```"))
    chat.ask("a question")
    chat.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
    assert tabbed(chat, 11) == [
        "new-chat",
        "theme",
        "open-settings",
        "transcript",
        "Copy message",
        "Edit message",
        "Copy code",
        "pre",
        "Copy answer",
        "Regenerate answer",
        "prompt",
    ]
    assert tabbed(chat, 1) == ["send"]


def test_the_way_to_the_message_box_can_be_cut_short(chat: ChatPage) -> None:
    chat.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
    assert chat.find(".skip").location["y"] >= 0
    chat.keys(ENTER)
    assert chat.focused == "prompt"


def test_settings_by_keyboard(chat: ChatPage, server: PageServer) -> None:
    chat.run("document.querySelector('#open-settings').focus()")
    chat.keys(ENTER)
    assert chat.find("#open-settings").get_attribute("aria-expanded") == "true"
    assert chat.focused == "Close settings"
    assert tabbed(chat, 7) == [
        "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed",
    ]  # fmt: skip
    chat.keys("42", ENTER)
    assert chat.visible("#settings")
    assert tabbed(chat, 4) == ["system", "thinking", "formatted", "reset"]
    chat.run("document.querySelector('#thinking').focus()")
    chat.keys(SPACE)
    chat.keys(ESCAPE)
    assert not chat.visible("#settings")
    assert chat.focused == "open-settings"
    server.staged.append(Staged.text("fine"))
    chat.ask("a question")
    assert server.asked[0]["seed"] == 42
    assert server.asked[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_on_a_phone_the_focus_stays_in_the_settings(chat: ChatPage) -> None:
    chat.size(390, 844, phone=True)
    chat.run("document.querySelector('#open-settings').focus()")
    chat.keys(ENTER)
    inside = "return document.querySelector('#settings').contains(document.activeElement)"
    for _ in range(12):
        assert chat.run(inside) or chat.focused == "body"  # the browser's own bars come in between
        chat.keys(TAB)
    chat.keys(ESCAPE)
    assert not chat.visible("#settings")
    assert chat.focused == "open-settings"


def test_a_whole_conversation_without_a_mouse(chat: ChatPage, server: PageServer) -> None:
    server.staged += [Staged.text(text) for text in ("first", "second", "third")]
    chat.keys("one", ENTER)
    chat.until(lambda: chat.answers == ["first"] and not chat.running)
    chat.run("document.querySelector('.again').focus()")
    chat.keys(ENTER)
    chat.until(lambda: chat.answers == ["second"] and not chat.running)
    assert chat.focused == "prompt"
    chat.run("document.querySelector(\"[aria-label='Edit message']\").focus()")
    chat.keys(SPACE)
    chat.until(lambda: chat.focused == "prompt")
    chat.keys(" more", ENTER)
    chat.until(lambda: chat.answers == ["third"] and not chat.running)
    chat.run("document.querySelector('#new-chat').focus()")
    chat.keys(ENTER)
    assert chat.focused == "prompt"
    assert chat.answers == []


def test_the_answer_is_read_out(chat: ChatPage, server: PageServer) -> None:
    spoken = chat.find("#spoken")
    assert spoken.get_attribute("role") == "log"
    assert spoken.get_attribute("aria-live") == "polite"
    server.staged.append(Staged.text("First paragraph.\n\nSecond, unfin", open_end=True))
    chat.send("a question")
    chat.until(lambda: chat.shown("#spoken") == "First paragraph.")
    chat.keys(ESCAPE)
    chat.until(lambda: server.left == 1 and not chat.running)
    server.left = 0
    said = [line.get_property("textContent") for line in chat.all("#spoken p")]
    assert [str(line).strip() for line in said] == [
        "First paragraph.", "Second, unfin", "Stopped.",
    ]  # fmt: skip


def test_everything_has_a_name(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("```\ncode\n```", "a thought"))
    chat.ask("a question")
    chat.click("#open-settings")
    nameless = [
        element.get_attribute("outerHTML")
        for element in chat.all("button, input, textarea, summary, section, article, dialog")
        if element.is_displayed() and not element.accessible_name
    ]
    assert nameless == []
    assert chat.find("#notice").get_attribute("role") == "alert"
    assert chat.find("html").get_attribute("lang") == "en"


def test_a_name_that_is_seen_is_the_name_that_is_spoken(chat: ChatPage) -> None:
    for button in chat.all("button"):
        if button.is_displayed() and button.text:
            assert button.text.lower() in (button.accessible_name or "").lower()
