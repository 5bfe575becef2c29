"""Each pre-tokenizer cuts text into the words that its models were trained on."""

from __future__ import annotations

import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import PreTokenizer, Sequence, Split

from ferrum.builder.pre_tokenizers import PRE_TOKENIZERS, byte_alphabet


def words(name: str, text: str) -> list[str]:
    splits: list[PreTokenizer] = [
        Split(Regex(regex), "isolated") for regex in PRE_TOKENIZERS[name].splits
    ]
    return [word for word, _ in Sequence(splits).pre_tokenize_str(text)]


def test_qwen2_cuts_single_digits_contractions_and_line_ends() -> None:
    assert words("qwen2", "I'll pay 123 euros,\n\n  you\tpay") == [
        "I", "'ll", " pay", " ", "1", "2", "3", " euros", ",\n\n", " ", " you", "\tpay",
    ]  # fmt: skip
    assert words("qwen2", "DON'T!!\r\n") == ["DON", "'T", "!!\r\n"]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("qwen2", ["1", "2", "3", "4", "5", "6", "7"]),
        ("qwen35", ["1", "2", "3", "4", "5", "6", "7"]),
        ("deepseek-r1-qwen", ["1", "2", "3", "4", "5", "6", "7"]),
        ("llama-bpe", ["123", "456", "7"]),
        ("gpt-2", ["1234567"]),
        ("default", ["123", "456", "7"]),
    ],
)
def test_digits_are_grouped(name: str, groups: list[str]) -> None:
    assert words(name, "1234567") == groups


def test_qwen35_keeps_marks_with_their_letters() -> None:
    assert words("qwen35", "\u0915\u093f\u0915") == ["\u0915\u093f\u0915"]
    assert len(words("qwen2", "\u0915\u093f\u0915")) > 1


def test_default_takes_punctuation_apart_from_words() -> None:
    assert words("default", "a,b = {c}") == ["a", ",", "b", " ", "=", " ", "{", "c", "}"]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_no_character_is_lost(name: str) -> None:
    text = "Hello, wörld! 1234567 don't\n\n\tx = {'a': [1,2]}  # \u4f60\u597d\r\n  \u0915\u093f "
    assert "".join(words(name, text)) == text


def test_the_byte_alphabet_is_gpt2s() -> None:
    alphabet = byte_alphabet()
    assert len(set(alphabet)) == 256
    assert all(character.isprintable() and not character.isspace() for character in alphabet)
    assert [alphabet[byte] for byte in b" \n\tA~\x7f\xff\xad"] == list("ĠĊĉA~ġÿŃ")
