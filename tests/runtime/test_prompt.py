"""Prompts as callers give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrum.runtime.artifact import TokenizerFiles
from ferrum.runtime.prompt import as_list, token_ids
from ferrum.runtime.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    files = {"file": "tokenizer.json", "chat_template": None, "bos": None, "eos": [],
             "pad": None, "add_bos": False}  # fmt: skip
    return Tokenizer(tiny.parent / "tokenizer.json", TokenizerFiles.model_validate(files))


@pytest.mark.parametrize("given", [[1, 2], (1, 2), range(1, 3), np.array([1, 2], np.int32)])
def test_integers_of_any_kind_are_token_ids(tokenizer: Tokenizer, given: Any) -> None:
    assert token_ids(given, tokenizer) == [1, 2]
    assert as_list(given) == [[1, 2]]
    assert [list(prompt) for prompt in as_list([given, given])] == [[1, 2], [1, 2]]


def test_texts_are_prompts(tokenizer: Tokenizer) -> None:
    assert token_ids("the", tokenizer) == tokenizer.encode("the")
    assert as_list("the") == ["the"]
    assert as_list(["the", [1]]) == ["the", [1]]
    assert as_list([]) == []


@pytest.mark.parametrize("bad", [b"the", bytearray(b"the"), {"the": 1}, None, 3])
def test_what_is_neither_is_refused(tokenizer: Tokenizer, bad: Any) -> None:
    for read in (as_list, lambda prompt: token_ids(prompt, tokenizer)):
        with pytest.raises(TypeError, match=r"^\[prompt\] got \w+ -> a text, or token ids$"):
            read(bad)


@pytest.mark.parametrize("bad", [1.5, "1", None, [1], np.float32(1)])
def test_a_token_that_is_no_integer_is_refused(tokenizer: Tokenizer, bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^\[prompt\] a token, got .* -> an integer$"):
        token_ids([1, bad], tokenizer)
