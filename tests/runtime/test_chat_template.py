"""Templates of the Hub render as they do there, and cannot reach out of their sandbox."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from ferrum.runtime.chat_template import ChatError, ChatTemplate

HELLO = [{"role": "user", "content": "hi"}]


def render(text: str, messages: Any = HELLO, **variables: Any) -> str:
    return ChatTemplate(text, {"eos_token": "<e>"}).render(messages, **variables)


def test_messages_and_the_generation_prompt() -> None:
    text = (
        "{% for m in messages %}{{ m['role'] }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}bot:{% endif %}"
    )
    assert render(text) == "user: hi<e>bot:"
    assert render(text, add_generation_prompt=False) == "user: hi<e>"


def test_variables_reach_the_template() -> None:
    text = (
        "{% if enable_thinking is defined and not enable_thinking %}quick{% else %}slow{% endif %}"
    )
    assert render(text) == "slow"
    assert render(text, enable_thinking=False) == "quick"


def test_blocks_leave_no_blank_lines() -> None:
    assert render("{% if true %}\n  {% if true %}\na\n  {% endif %}\n{% endif %}\nb") == "a\nb"


def test_loops_can_break_and_dates_can_be_asked() -> None:
    assert (
        render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}")
        == "01"
    )
    assert render("{{ strftime_now('%Y') }}") == str(datetime.now().year)


def test_json_is_plain() -> None:
    assert render("{{ {'a': '<é>'} | tojson }}") == '{"a": "<é>"}'
    assert render("{{ [1] | tojson(indent=2) }}") == "[\n  1\n]"


def test_a_template_may_refuse() -> None:
    with pytest.raises(ChatError, match="refuses the messages: no system"):
        render("{{ raise_exception('no system') }}")


@pytest.mark.parametrize("text", ["{% if %}", "{{ messages[9].content.x.y }}", "{{ 1 + 'a' }}"])
def test_a_template_that_does_not_work_is_one_clear_line(text: str) -> None:
    with pytest.raises(ChatError, match="chat template") as caught:
        render(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [
    "{{ messages.__class__.__mro__ }}",
    "{{ messages.append(1) }}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
])  # fmt: skip
def test_a_template_cannot_reach_out(text: str) -> None:
    with pytest.raises(ChatError):
        render(text)


@pytest.mark.parametrize("messages", [["hi"], [{"content": "hi"}]])
def test_messages_have_roles(messages: Any) -> None:
    with pytest.raises(ChatError, match="message 0"):
        render("", messages)
