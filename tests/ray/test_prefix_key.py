"""A request's body to a key that all requests of its conversation share."""

from __future__ import annotations

import json
from typing import Any

from ferrum.runtime.serve.ray.prefix_key import prefix_key

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def chat(*messages: str, **more: Any) -> str:
    """The key of a chat of these contents, turn about."""
    turns = [
        {"role": "assistant" if index % 2 else "user", "content": content}
        for index, content in enumerate(messages)
    ]
    return prefix_key(CHAT, json.dumps({"messages": turns, **more}).encode())


def text(prompt: Any, **more: Any) -> str:
    return prefix_key(TEXT, json.dumps({"prompt": prompt, **more}).encode())


def test_turns_of_a_chat_share_a_key() -> None:
    assert chat("Write a loop.") == chat("Write a loop.", "for", "And another?") != ""


def test_chats_with_other_beginnings_have_other_keys() -> None:
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    body = json.dumps({"messages": system}).encode()
    assert len({chat("Hello"), chat("Hi"), prefix_key(CHAT, body)}) == 3


def test_tools_are_part_of_the_beginning() -> None:
    assert chat("Hello", tools=[{"type": "function"}]) != chat("Hello")


def test_how_an_answer_is_sampled_is_not() -> None:
    assert chat("Hello", temperature=0.3, stream=True) == chat("Hello")


def test_a_growing_text_keeps_its_key() -> None:
    beginning = "import os\n" * 20
    assert text(beginning) == text(beginning + "import sys\n") != text("import re\n" * 20)


def test_token_ids_and_several_prompts_have_keys_too() -> None:
    ids = list(range(40))
    assert text(ids) == text([*ids, 7]) == text([ids, [1, 2]]) != ""
    assert text(["a", "b"]) == text("a") != ""


def test_the_field_that_openai_has_for_it_wins() -> None:
    assert chat("Hello", prompt_cache_key="k") == chat("Hi", prompt_cache_key="k")
    assert chat("Hello", prompt_cache_key="") == chat("Hello")


def test_what_cannot_be_read_has_no_key() -> None:
    bodies = [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"{}", b'{"messages": 3}',
              b'{"messages": []}', b'{"prompt": null}', b'{"prompt": []}']  # fmt: skip
    assert {prefix_key(path, body) for path in (CHAT, TEXT) for body in bodies} == {""}
    assert prefix_key("/tokenize", b'{"prompt": "a"}') == ""


def test_messages_of_any_shape_have_one() -> None:
    assert prefix_key(CHAT, b'{"messages": [1, null, {"role": []}]}') != ""
