"""A GGUF's tokenizer metadata as `tokenizer.json`, `tokenizer_config.json` and chat template.

Byte-level BPE only, the tokenizer of every Qwen3: other kinds are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ferrum.builder.gguf import GGUF, GGUFError
from ferrum.builder.gguf_header import quoted
from ferrum.builder.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer, byte_alphabet

CHAT_TEMPLATE = "chat_template.jinja"  # the file

# Values of tokenizer.ggml.token_type.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_NO_TOKEN = (1 << 32) - 1  # how llama.cpp saves an id that a model has not

# Besides the ids that the metadata names, these control tokens end a turn in Qwen's files.
_END_TOKENS = ("<|im_end|>", "<|endoftext|>")


@dataclass(frozen=True)
class Tokenizer:
    """The files to write and the ids that a runtime must know besides.

    `eos`: every id that ends a generation, the file's own eos first; empty where it names none.
    """

    vocab_size: int
    bos: int | None
    eos: tuple[int, ...]
    pad: int | None
    add_bos: bool
    add_eos: bool
    chat_template: str | None
    tokenizer_json: str
    tokenizer_config_json: str

    def files(self) -> dict[str, str]:
        """File name -> text of what belongs beside the model."""
        files = {
            "tokenizer.json": self.tokenizer_json,
            "tokenizer_config.json": self.tokenizer_config_json,
        }
        if self.chat_template is not None:
            files[CHAT_TEMPLATE] = self.chat_template
        return files


def read_tokenizer(gguf: GGUF) -> Tokenizer:
    """Turn `tokenizer.*` of a GGUF into files that the `tokenizers` library loads.

    Where two ids share one text, the later id is the one that text encodes to, as in llama.cpp,
    and the earlier decodes to nothing. Raises `GGUFError` for a tokenizer that is missing, of an
    unknown kind, or inconsistent.
    """
    return _Reader(gguf).read()


class _Reader:
    def __init__(self, gguf: GGUF) -> None:
        self.name = gguf.path.name
        self.metadata = gguf.metadata

    def read(self) -> Tokenizer:
        pre = self.pre_tokenizer()
        tokens = self.strings("tokenizer.ggml.tokens")
        types = self.types(len(tokens))
        vocab = {text: index for index, text in enumerate(tokens)}
        self.check_bytes(vocab)
        merges = self.merges(vocab)
        bos, eos, pad = (self.token_id(key, tokens) for key in ("bos", "eos", "padding"))
        add_bos = self.get("tokenizer.ggml.add_bos_token", bool, pre.add_bos)
        add_eos = self.get("tokenizer.ggml.add_eos_token", bool, False)
        if add_bos and bos is None:
            self.fail("tokenizer.ggml.add_bos_token is true, but there is no bos_token_id")
        if add_eos and eos is None:
            self.fail("tokenizer.ggml.add_eos_token is true, but there is no eos_token_id")
        before = [(tokens[bos], bos)] if add_bos and bos is not None else []
        after = [(tokens[eos], eos)] if add_eos and eos is not None else []
        template = self.get("tokenizer.chat_template", str, None)
        added = _added_tokens(tokens, types, vocab)
        config = {
            "tokenizer_class": pre.config_class,
            "add_bos_token": add_bos,
            "add_eos_token": add_eos,
            "bos_token": None if bos is None else tokens[bos],
            "eos_token": None if eos is None else tokens[eos],
            "pad_token": None if pad is None else tokens[pad],
            "clean_up_tokenization_spaces": False,
            "added_tokens_decoder": {
                str(token["id"]): {key: token[key] for key in token if key != "id"}
                for token in added
            },
        }
        if template is not None:
            config["chat_template"] = template
        return Tokenizer(
            vocab_size=len(tokens),
            bos=bos,
            eos=self.end_tokens(tokens, types, vocab, eos),
            pad=pad,
            add_bos=add_bos,
            add_eos=add_eos,
            chat_template=template,
            tokenizer_json=self.text(_tokenizer_json(pre, vocab, merges, added, before, after)),
            tokenizer_config_json=self.text(config, indent=2),
        )

    def pre_tokenizer(self) -> PreTokenizer:
        model = self.get("tokenizer.ggml.model", str, None)
        if model is None:
            self.fail("tokenizer.ggml.model is missing: the file holds no tokenizer")
        if model != "gpt2":
            self.fail(f"tokenizer.ggml.model {quoted(model)} -> 'gpt2' (byte-level BPE)")
        pre = self.get("tokenizer.ggml.pre", str, None)
        if pre not in PRE_TOKENIZERS:
            got = "missing" if pre is None else quoted(pre)
            self.fail(f"tokenizer.ggml.pre {got} -> one of {', '.join(PRE_TOKENIZERS)}")
        return PRE_TOKENIZERS[pre]

    def types(self, count: int) -> list[int]:
        types = self.metadata.get("tokenizer.ggml.token_type")
        if types is None:
            return [NORMAL] * count
        if not isinstance(types, np.ndarray) or types.dtype.kind not in "iu":
            self.fail("tokenizer.ggml.token_type -> an array of integers")
        if len(types) != count:
            self.fail(f"tokenizer.ggml.token_type holds {len(types)} entries -> {count}, as tokens")
        return [int(t) for t in types]

    def check_bytes(self, vocab: dict[str, int]) -> None:
        # Without its byte's token a character would silently vanish. 0xC0, 0xC1 and 0xF5 and up
        # never occur in UTF-8, so a vocabulary may lack them.
        alphabet = byte_alphabet()
        missing = [
            f"0x{byte:02x}"
            for byte in range(0xF5)
            if byte not in (0xC0, 0xC1) and alphabet[byte] not in vocab
        ]
        if missing:
            shown = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
            self.fail(f"tokenizer.ggml.tokens lacks {len(missing)} of the byte tokens: {shown}")

    def merges(self, vocab: dict[str, int]) -> list[str]:
        merges = self.strings("tokenizer.ggml.merges")
        for index, merge in enumerate(merges):
            # Byte-level tokens hold no space, but one made by hand may start with it.
            cut = merge.find(" ", 1)
            left, right = merge[:cut], merge[cut + 1 :]
            if cut < 0 or not right:
                self.fail(f"tokenizer.ggml.merges[{index}] {quoted(merge)} -> two tokens")
            for text in (left, right, left + right):
                if text not in vocab:
                    self.fail(
                        f"tokenizer.ggml.merges[{index}] {quoted(merge)}: "
                        f"{quoted(text)} is not among the tokens"
                    )
        return merges

    def token_id(self, kind: str, tokens: list[str]) -> int | None:
        key = f"tokenizer.ggml.{kind}_token_id"
        value: int | None = self.get(key, int, None)
        if value == _NO_TOKEN:
            return None
        if value is not None and not 0 <= value < len(tokens):
            self.fail(f"{key} {value} -> 0 to {len(tokens) - 1}")
        return value

    def end_tokens(
        self, tokens: list[str], types: list[int], vocab: dict[str, int], eos: int | None
    ) -> tuple[int, ...]:
        ends = [eos, self.token_id("eot", tokens), self.token_id("eom", tokens)]
        named = [vocab[text] for text in _END_TOKENS if text in vocab]
        ends += [token for token in named if types[token] == CONTROL]
        return tuple(dict.fromkeys(token for token in ends if token is not None))

    def strings(self, key: str) -> list[str]:
        value = self.metadata.get(key)
        if value is None:
            self.fail(f"{key} is missing")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(f"{key} -> an array of strings")
        if not value and key.endswith("tokens"):
            self.fail(f"{key} is empty")
        return value

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self.metadata.get(key, default)
        if value is not default and type(value) is not kind:
            self.fail(f"{key} is a {type(value).__name__} -> {kind.__name__}")
        return value

    def text(self, value: Any, indent: int | None = None) -> str:
        text = json.dumps(value, ensure_ascii=False, indent=indent)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                around = text[max(0, error.start - 10) : error.end + 10]
                self.fail(f"tokenizer: text that is not UTF-8 near {quoted(around)}")
        return text

    def fail(self, what: str) -> NoReturn:
        raise GGUFError(f"[{self.name}] {what}")


def _added_tokens(
    tokens: list[str], types: list[int], vocab: dict[str, int]
) -> list[dict[str, Any]]:
    """Tokens that are matched in the text as a whole, before it is cut into words."""
    return [
        {
            "id": index,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": types[index] != USER_DEFINED,
        }
        for index, text in enumerate(tokens)
        if types[index] in (UNKNOWN, CONTROL, USER_DEFINED) and text and vocab[text] == index
    ]


def _tokenizer_json(
    pre: PreTokenizer,
    vocab: dict[str, int],
    merges: list[str],
    added: list[dict[str, Any]],
    before: list[tuple[str, int]],
    after: list[tuple[str, int]],
) -> dict[str, Any]:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    splits: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in pre.splits
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre.nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "post_processor": _template(before, after) if before or after else byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre.ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _template(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> dict[str, Any]:
    def special(items: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": text, "type_id": 0}} for text, _ in items]

    def around(name: str) -> list[dict[str, Any]]:
        return [*special(before), {"Sequence": {"id": name, "type_id": 0}}, *special(after)]

    return {
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": [*around("A"), *around("B")],
        "special_tokens": {
            text: {"id": text, "ids": [index], "tokens": [text]}
            for text, index in (*before, *after)
        },
    }
