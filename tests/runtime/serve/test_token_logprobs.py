"""Log-probabilities as either endpoint writes them."""

from __future__ import annotations

import math

from ferrum.runtime.llm import LLM
from ferrum.runtime.logprobs import TokenLogprobs
from ferrum.runtime.serve.token_logprobs import TextLogprobs, chat_logprobs, token_text


def test_a_special_token_is_spelled_out(sample_llm: LLM) -> None:
    (token,) = sample_llm.tokenizer.encode("<|im_end|>")
    assert token_text(sample_llm.tokenizer, token) == "<|im_end|>"


def test_a_part_of_a_character_is_told_by_its_bytes(sample_llm: LLM) -> None:
    tokens = sample_llm.tokenizer.encode("語")
    assert len(tokens) > 1
    spelled = [token_text(sample_llm.tokenizer, token) for token in tokens]
    assert "".join(text.removeprefix("bytes:") for text in spelled) == r"\xe8\xaa\x9e"
    known = [TokenLogprobs(logprob=-1.0, top=())] * len(tokens)
    content = chat_logprobs(sample_llm.tokenizer, tokens, known)["content"]
    assert bytes(byte for entry in content for byte in entry["bytes"]) == "語".encode()


def test_offsets_count_characters_over_all_parts_of_a_stream(sample_llm: LLM) -> None:
    tokens = sample_llm.tokenizer.encode("a語b語")
    known = [TokenLogprobs(logprob=-1.0, top=())] * len(tokens)
    logprobs = TextLogprobs(sample_llm.tokenizer)
    offsets = [
        offset
        for token, one in zip(tokens, known, strict=True)
        for offset in logprobs.of([token], [one])["text_offset"]
    ]
    assert offsets == TextLogprobs(sample_llm.tokenizer).of(tokens, known)["text_offset"]
    assert offsets == sorted(offsets)
    assert (offsets[0], offsets[-1]) == (0, 3)


def test_what_is_impossible_is_a_number_that_json_has(sample_llm: LLM) -> None:
    known = TokenLogprobs(logprob=-math.inf, top=((5, -0.5), (6, -math.inf)))
    (entry,) = chat_logprobs(sample_llm.tokenizer, [5], [known])["content"]
    assert entry["logprob"] == -9999.0
    assert [top["logprob"] for top in entry["top_logprobs"]] == [-0.5, -9999.0]
    assert TextLogprobs(sample_llm.tokenizer).of([5], [known])["token_logprobs"] == [-9999.0]
