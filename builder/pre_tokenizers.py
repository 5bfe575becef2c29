"""How text is cut into words before BPE: the table behind `tokenizer.ggml.pre`.

The regexes are those of the models' own tokenizer.json files, which llama.cpp spells differently
but matches the same way. To add one: a row in `PRE_TOKENIZERS`.
"""

from __future__ import annotations

from dataclasses import dataclass

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"


@dataclass(frozen=True)
class PreTokenizer:
    """How text is cut into words before BPE: each regex cuts what the one before left.

    `ignore_merges`: a word that is itself a token is taken whole. `add_bos`: what holds where the
    file does not say. `nfc`: the text is normalized first, as the original tokenizer.json does.
    """

    splits: tuple[str, ...]
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False
    config_class: str = "PreTrainedTokenizerFast"


def _gpt4_words(letters: str, digits: str) -> str:
    """The word regex that the GPT-4 family shares; they differ in two character classes."""
    outside = letters.strip("[]")
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
        + rf"{letters}+|{digits}| ?[^\s{outside}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_QWEN2_WORDS = _gpt4_words(r"\p{L}", r"\p{N}")
_LLAMA3 = PreTokenizer(
    (_gpt4_words(r"\p{L}", r"\p{N}{1,3}"),), ignore_merges=True, add_bos=True
)  # fmt: skip
PRE_TOKENIZERS = {
    "qwen2": PreTokenizer((_QWEN2_WORDS,), nfc=True, config_class="Qwen2Tokenizer"),
    "qwen35": PreTokenizer(
        (_gpt4_words(r"[\p{L}\p{M}]", r"\p{N}"),), nfc=True, config_class="Qwen2Tokenizer"
    ),
    "deepseek-r1-qwen": PreTokenizer((_QWEN2_WORDS,)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "gpt-2": PreTokenizer((_GPT2,)),
    "default": PreTokenizer(
        (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    ),
}


def byte_alphabet() -> list[str]:
    """The printable character that stands for each of the 256 bytes in byte-level BPE.

    Printable Latin-1 characters stand for themselves; the others take the code points from 256
    on, in order (the scheme of GPT-2's tokenizer).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
