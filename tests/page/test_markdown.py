"""What the model writes, as the page shows it: a little Markdown, and never markup."""

from __future__ import annotations

from typing import Any

import pytest
from chat_page import ChatPage
from page_server import PageServer, Staged

# A node as [tag, children], a text as itself; buttons and captions are left out.
TREE = """
const tree = (node) => node.nodeType === 3 ? node.data
  : node.matches("figcaption") ? null
  : [node.localName, ...[...node.childNodes].map(tree).filter((child) => child)];
return tree(document.querySelector("article.assistant .body")).slice(1);
"""
CASES: dict[str, tuple[str, list[Any]]] = {
    "paragraphs": ("one\ntwo\n\nthree", [["p", "one\ntwo"], ["p", "three"]]),
    "code": (
        "```python\ndef f():\n    return 1\n```",
        [["figure", ["pre", ["code", "def f():\n    return 1"]]]],
    ),
    "code in an item": (
        "1. do\n   ```sh\n   make\n     test\n   ```",
        [["div", ["ol", ["li", "do"]]], ["figure", ["pre", ["code", "make\n  test"]]]],
    ),
    "code without an end": ("```\nx = 1\n", [["figure", ["pre", ["code", "x = 1"]]]]),
    "a fence in a longer one": (
        "````\n```\nx\n```\n````",
        [["figure", ["pre", ["code", "```\nx\n```"]]]],
    ),
    "inline code": ("call `f(**x)` now", [["p", "call ", ["code", "f(**x)"], " now"]]),
    "emphasis": (
        "**bold with `code`** and *italic*",
        [["p", ["strong", "bold with ", ["code", "code"]], " and ", ["em", "italic"]]],
    ),
    "python's stars": (
        "def f(*args, **kwargs): return g(*args, **kwargs) * 2 * 3",
        [["p", "def f(*args, **kwargs): return g(*args, **kwargs) * 2 * 3"]],
    ),
    "a comment is no heading": ("# a comment\nx = 1", [["p", "# a comment\nx = 1"]]),
    "heading": ("## Two **bold**", [["h3", "Two ", ["strong", "bold"]]]),
    "lists": (
        "- a\n- b\n  - c\n    goes on\n- d",
        [["div", ["ul", ["li", "a"], ["li", "b", ["ul", ["li", "c\ngoes on"]]], ["li", "d"]]]],
    ),
    "numbers after bullets": (
        "- a\n1. b",
        [["div", ["ul", ["li", "a"]], ["ol", ["li", "b"]]]],
    ),
    "rule": ("a\n\n---\nb", [["p", "a"], ["hr"], ["p", "b"]]),
    "table": (
        "| a | b |\n|---|:-:|\n| 1 | `2` |",
        [
            [
                "div",
                [
                    "table",
                    ["tr", ["th", "a"], ["th", "b"]],
                    ["tr", ["td", "1"], ["td", ["code", "2"]]],
                ],
            ]
        ],
    ),
}
MARKUP = (
    "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
    "<svg onload='window.hit = 1'><a href='javascript:window.hit = 1'>x</a>"
    "<iframe srcdoc='<script>parent.hit = 1</script>'></iframe><style>* {display: none}</style>"
)
PLACES = {
    "text": MARKUP,
    "inline code": f"`{MARKUP}`",
    "a fence": f"```\n{MARKUP}\n```",
    "a language": f"```{MARKUP}\nx\n```",
    "a list": f"- {MARKUP}\n1. {MARKUP}",
    "a table": f"| {MARKUP} |\n|---|\n| {MARKUP} |",
    "bold": f"**{MARKUP}**",
    "a heading": f"## {MARKUP}",
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_markdown_becomes(
    chat: ChatPage, server: PageServer, text: str, expected: list[Any]
) -> None:
    server.staged.append(Staged.text(text))
    chat.ask("show me")
    assert chat.run(TREE) == expected


def test_unformatted_answers_are_as_the_model_wrote_them(
    chat: ChatPage, server: PageServer
) -> None:
    text = "**not bold**\n\n    # indented\n```\ncode\n```"
    server.staged.append(Staged.text(text))
    chat.ask("show me")
    chat.click("#open-settings")
    chat.click("#formatted")
    assert chat.run(TREE) == [["div", ["p", text]]]
    assert "mono" in chat.find("p.fixed").value_of_css_property("font-family")


@pytest.mark.parametrize("place", PLACES)
def test_markup_in_the_models_text_stays_text(
    chat: ChatPage, server: PageServer, place: str
) -> None:
    server.staged.append(Staged.text(PLACES[place], reasoning=MARKUP))
    chat.ask(MARKUP)
    chat.click("summary")
    assert chat.run("return window.hit") is None
    shown = chat.find("article.assistant").text
    assert "window.hit = 1" in shown
    foreign = "#messages :is(script, img, a, iframe, style, [onerror], [onload])"
    assert chat.all(foreign) == []
    assert chat.shown("article.user .body") == MARKUP
    assert chat.shown("details div") == MARKUP


def test_markup_in_an_error_stays_text(chat: ChatPage, server: PageServer) -> None:
    chat.refused.add(400)
    error = '{"error": {"message": "<img src=x onerror=\'window.hit = 1\'>"}}'
    server.staged.append(Staged(status=400, body=error))
    chat.send("a question")
    chat.until(lambda: chat.visible("#notice"))
    assert "<img src=x" in chat.shown("#notice")
    assert chat.all("#notice img") == []


def test_the_format_can_change_while_the_answer_comes(slow_chat: ChatPage) -> None:
    slow_chat.click("#open-settings")
    slow_chat.send("import os")
    slow_chat.until(lambda: slow_chat.answers and slow_chat.answers[0].strip())
    slow_chat.click("#formatted")
    before = len(slow_chat.answers[0])
    slow_chat.until(lambda: len(slow_chat.answers[0]) > before)
    assert slow_chat.visible("p.fixed")
    assert slow_chat.running


def test_what_is_drawn_already_keeps_its_nodes(chat: ChatPage, server: PageServer) -> None:
    server.staged.append(Staged.text("first\n\n```\ncode", open_end=True))
    chat.send("a question")
    chat.until(lambda: chat.all("figure.code"))
    chat.run("document.querySelector('article.assistant p').mark = 1")
    chat.run("drawText(document.querySelector('article.assistant .body'), 'first\\n\\n```\\nmore')")
    assert chat.run("return document.querySelector('article.assistant p').mark") == 1
    assert chat.shown("figure.code code") == "more"
    chat.keys("\ue00c")
    chat.until(lambda: server.left == 1)
    server.left = 0
