"""The metadata of a made-up byte-level BPE tokenizer of any size."""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_lowercase
from typing import Any

import numpy as np

from ferrum.builder.pre_tokenizers import byte_alphabet

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5


def tokenizer_metadata(vocab: int, padding: int = 0) -> dict[str, Any]:
    """`tokenizer.*` for `vocab` tokens: bytes, merges, three specials, `padding` unused ones.

    Merges spell all short words of lowercase letters, with or without a leading space, the
    shorter ones first; so ordinary text encodes to pieces of up to four characters.
    """
    merged = vocab - 256 - len(SPECIALS) - padding
    if merged < 0:
        raise ValueError(f"vocab {vocab} -> at least {256 + len(SPECIALS) + padding}")
    pairs = [pair for pair, _ in zip(_pairs(), range(merged), strict=False)]
    tokens = [
        *byte_alphabet(),
        *(left + right for left, right in pairs),
        *SPECIALS,
        *(f"[PAD{vocab - padding + index}]" for index in range(padding)),
    ]
    first = 256 + merged
    types = np.full(vocab, _NORMAL, np.int32)
    types[first : first + len(SPECIALS)] = _CONTROL
    types[first + len(SPECIALS) :] = _UNUSED
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in pairs],
        "tokenizer.ggml.bos_token_id": first,
        "tokenizer.ggml.padding_token_id": first,
        "tokenizer.ggml.eos_token_id": first + 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _pairs() -> Iterator[tuple[str, str]]:
    """(word, letter) to merge, words growing by one letter per round; about 500,000 in all."""
    words = [byte_alphabet()[ord(" ")], *ascii_lowercase]
    for _ in range(3):
        longer = []
        for word in words:
            for letter in ascii_lowercase:
                longer.append(word + letter)
                yield word, letter
        words = longer
