"""/tokenize and /detokenize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ferrum.runtime.serve.engine_thread import EngineThread
from ferrum.runtime.serve.errors import QueueFull
from ferrum.runtime.serve.protocol.tokens import DetokenizeAnswer, TokenizeAnswer

if TYPE_CHECKING:
    from conftest import Api

TEXT = "def naïve():\n    return '語'<|im_end|>"


def tokenized(api: Api, **body: Any) -> TokenizeAnswer:
    return TokenizeAnswer.model_validate_json(api.post("/tokenize", body).content)


def test_a_text_is_the_tokens_that_a_completion_has(api: Api) -> None:
    answer = tokenized(api, prompt=TEXT)
    assert answer.tokens == api.service.llm.tokenizer.encode(TEXT)
    assert (answer.count, answer.max_model_len) == (len(answer.tokens), 1024)
    assert answer.token_strs is None


def test_tokens_come_with_their_texts_where_those_are_wanted(api: Api) -> None:
    texts = tokenized(api, prompt=TEXT, return_token_strs=True).token_strs
    assert texts is not None
    assert texts[0] == "def"
    assert texts[-1] == "<|im_end|>"
    assert any(text.startswith("bytes:\\x") for text in texts)  # a part of 語


def test_messages_are_the_tokens_that_a_chat_has(api: Api) -> None:
    messages = [{"role": "user", "content": "hello"}]
    asked = api.client.chat.completions.create(
        model="tinycode", messages=messages, max_tokens=1  # type: ignore[arg-type]
    )  # fmt: skip
    whole = tokenized(api, messages=messages)
    assert asked.usage is not None
    assert whole.count == asked.usage.prompt_tokens
    assert tokenized(api, messages=messages, add_generation_prompt=False).count < whole.count


def test_detokenize_gives_the_text_back(api: Api) -> None:
    answer = api.post("/detokenize", {"tokens": tokenized(api, prompt=TEXT).tokens})
    assert DetokenizeAnswer.model_validate_json(answer.content).prompt == TEXT
    assert api.post("/detokenize", {"tokens": []}).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ("/tokenize", {"content": "a"}, "content"),
        ("/detokenize", {"tokens": [0, 4096]}, "tokens[1]"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [1 << 80]}, "tokens[0]"),
    ],
)
def test_a_refusal_names_the_field(api: Api, path: str, body: Any, param: str) -> None:
    answer = api.post(path, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_no_place_among_those_that_want_steps_is_needed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise QueueFull(9, 1)

    monkeypatch.setattr(EngineThread, "place", full)
    assert api.post("/v1/completions", {"prompt": "a"}).status_code == 429
    assert api.post("/tokenize", {"prompt": "a"}).status_code == 200
    assert api.post("/detokenize", {"tokens": [1]}).status_code == 200
