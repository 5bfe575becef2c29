"""Tokens come out as llama.cpp and Hugging Face give them, and text survives the round trip."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import SyntheticSpec, write_synthetic
from tokenizers import Tokenizer as Loaded

from ferrum.builder.gguf import GGUF, GGUFError
from ferrum.builder.pre_tokenizers import PRE_TOKENIZERS, byte_alphabet
from ferrum.builder.tokenizer import CONTROL, NORMAL, UNUSED, USER_DEFINED, read_tokenizer

PREFIX = "tokenizer.ggml."


@pytest.fixture(scope="module")
def model(sample: Path) -> GGUF:
    return GGUF.open(sample)


@pytest.fixture(scope="module")
def loaded(model: GGUF) -> Loaded:
    return Loaded.from_str(read_tokenizer(model).tokenizer_json)


def changed(model: GGUF, /, **entries: Any) -> GGUF:
    """The model with entries of `tokenizer.ggml.` replaced; None removes one."""
    metadata = {**model.metadata, **{PREFIX + key: value for key, value in entries.items()}}
    kept = {key: value for key, value in metadata.items() if value is not None}
    return dataclasses.replace(model, metadata=kept)


def with_tokens(model: GGUF, *more: tuple[str, int]) -> GGUF:
    """The model with (text, type) tokens appended."""
    tokens, types = model.metadata[PREFIX + "tokens"], model.metadata[PREFIX + "token_type"]
    return changed(
        model,
        tokens=[*tokens, *(text for text, _ in more)],
        token_type=np.append(types, np.array([kind for _, kind in more], np.int32)),
    )


def test_the_reference_prompts_encode_to_their_ids(loaded: Loaded, shared_data: Path) -> None:
    greedy = json.loads((shared_data / "reference.json").read_text())["greedy"]
    assert len(greedy) == 4
    for prompt, expected in greedy.items():
        assert loaded.encode(prompt).ids == expected["prompt_ids"]
        text = loaded.decode(expected["tokens"], skip_special_tokens=False)
        assert text == expected["text"]


def test_held_out_code_round_trips_by_ids(loaded: Loaded, shared_data: Path) -> None:
    for row in np.load(shared_data / "truth_logits.npz")["tokens"].tolist():
        text = loaded.decode(row, skip_special_tokens=False)
        assert loaded.encode(text).ids == row


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_any_text_round_trips(loaded: Loaded, text: str) -> None:
    decoded = loaded.decode(loaded.encode(text).ids, skip_special_tokens=False)
    assert decoded == unicodedata.normalize("NFC", text)


def test_special_tokens_are_found_whole_and_can_be_skipped(loaded: Loaded) -> None:
    encoded = loaded.encode("<|im_start|>user\nhi<|im_end|>\n")
    assert encoded.tokens[0] == "<|im_start|>"
    assert encoded.tokens.count("<|im_end|>") == 1
    assert loaded.decode(encoded.ids) == "user\nhi\n"
    assert loaded.decode(encoded.ids, skip_special_tokens=False) == (
        "<|im_start|>user\nhi<|im_end|>\n"
    )


def test_ids_and_flags_are_told(model: GGUF) -> None:
    tokenizer = read_tokenizer(model)
    assert tokenizer.vocab_size == 4096
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (4093, (4095, 4093), 4093)
    assert not tokenizer.add_bos
    assert not tokenizer.add_eos
    assert tokenizer.chat_template == model.metadata["tokenizer.chat_template"]
    assert set(tokenizer.files()) == {
        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip


def test_every_token_that_ends_a_turn_is_an_eos(model: GGUF) -> None:
    assert read_tokenizer(changed(model, eos_token_id=7, eot_token_id=9)).eos == (7, 9, 4095, 4093)
    types = model.metadata[PREFIX + "token_type"].copy()
    types[4093:] = NORMAL  # text that looks like an end token is not one
    plain = changed(model, token_type=types, eos_token_id=None, eot_token_id=None)
    assert read_tokenizer(plain).eos == ()


def test_ids_that_llama_cpp_saved_as_absent_are_absent(model: GGUF) -> None:
    absent = (1 << 32) - 1
    saved = changed(model, bos_token_id=absent, padding_token_id=absent, eom_token_id=absent)
    tokenizer = read_tokenizer(saved)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (None, (4095, 4093), None)
    assert json.loads(tokenizer.tokenizer_config_json)["bos_token"] is None


def test_a_file_without_a_chat_template_writes_none(model: GGUF) -> None:
    metadata = {key: model.metadata[key] for key in model.metadata if "chat" not in key}
    tokenizer = read_tokenizer(dataclasses.replace(model, metadata=metadata))
    assert set(tokenizer.files()) == {"tokenizer.json", "tokenizer_config.json"}
    assert "chat_template" not in json.loads(tokenizer.tokenizer_config_json)


@pytest.mark.parametrize(("bos", "eos"), [(True, False), (False, True), (True, True)])
def test_bos_and_eos_are_added_where_the_file_says_so(bos: bool, eos: bool, model: GGUF) -> None:
    tokenizer = read_tokenizer(changed(model, add_bos_token=bos, add_eos_token=eos))
    loaded = Loaded.from_str(tokenizer.tokenizer_json)
    plain = loaded.encode("x = 1", add_special_tokens=False).ids
    assert loaded.encode("x = 1").ids == [4093] * bos + plain + [4095] * eos


def test_llama_bpe_takes_a_known_word_whole_and_adds_bos(model: GGUF) -> None:
    # No merge leads to "qqqq", so only a tokenizer that looks words up finds it.
    added = with_tokens(changed(model, pre="llama-bpe", add_bos_token=None), ("qqqq", NORMAL))
    loaded = Loaded.from_str(read_tokenizer(added).tokenizer_json)
    assert loaded.encode("qqqq").ids == [4093, 4096]
    qwen = Loaded.from_str(read_tokenizer(with_tokens(model, ("qqqq", NORMAL))).tokenizer_json)
    assert 4096 not in qwen.encode("qqqq").ids


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_every_pre_tokenizer_loads_and_round_trips(pre: str, model: GGUF) -> None:
    loaded = Loaded.from_str(read_tokenizer(changed(model, pre=pre)).tokenizer_json)
    text = "Hello, wörld! 1234567 don't\n\n\tx = {'a': [1,2]}  # \u4f60\u597d\r\n  \u0915\u093f"
    encoded = loaded.encode(text, add_special_tokens=False)
    assert loaded.decode(encoded.ids) == text


def test_user_defined_tokens_are_matched_but_not_special(model: GGUF) -> None:
    more = with_tokens(model, ("<think>", USER_DEFINED), ("<tool x>", CONTROL))
    loaded = Loaded.from_str(read_tokenizer(more).tokenizer_json)
    ids = loaded.encode("a<think>b<tool x>").ids
    assert ids.count(4096) == ids.count(4097) == 1
    assert loaded.decode(ids) == "a<think>b"


def test_padding_and_duplicate_tokens_do_not_break_the_vocabulary(model: GGUF) -> None:
    twins = with_tokens(model, ("[PAD4096]", UNUSED), ("<pad>", UNUSED), ("<pad>", CONTROL))
    tokenizer = read_tokenizer(twins)
    loaded = Loaded.from_str(tokenizer.tokenizer_json)
    assert tokenizer.vocab_size == 4099
    assert loaded.encode("<pad>").ids == [4098]
    assert loaded.decode([4097], skip_special_tokens=False) == ""
    assert loaded.id_to_token(4096) == "[PAD4096]"
    assert loaded.encode("def f(x):").ids == Loaded.from_str(
        read_tokenizer(model).tokenizer_json
    ).encode("def f(x):").ids  # fmt: skip


def test_a_vocabulary_as_large_as_qwens_loads(tmp_path: Path) -> None:
    spec = SyntheticSpec(layers=1, vocab=151_936, padding_tokens=267, mixture="Q4_0")
    tokenizer = read_tokenizer(GGUF.open(write_synthetic(tmp_path / "m.gguf", spec)[0]))
    loaded = Loaded.from_str(tokenizer.tokenizer_json)
    assert loaded.get_vocab_size() == 151_936
    assert loaded.decode(loaded.encode("hello world").ids) == "hello world"


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "no tokenizer": ({"model": None}, "the file holds no tokenizer"),
    "other kind": ({"model": "llama"}, r"tokenizer\.ggml\.model 'llama' -> 'gpt2'"),
    "no pre": ({"pre": None}, r"tokenizer\.ggml\.pre missing -> one of qwen2, qwen35"),
    "unknown pre": ({"pre": "tekken"}, r"tokenizer\.ggml\.pre 'tekken' -> one of qwen2"),
    "no tokens": ({"tokens": None}, r"tokenizer\.ggml\.tokens is missing"),
    "tokens of numbers": ({"tokens": np.arange(9)}, "tokens -> an array of strings"),
    "empty": ({"tokens": [], "token_type": None}, r"tokens is empty"),
    "no merges": ({"merges": None}, r"tokenizer\.ggml\.merges is missing"),
    "types short": ({"token_type": np.ones(9, np.int32)}, "holds 9 entries -> 4096, as tokens"),
    "types of text": ({"token_type": ["a"]}, "token_type -> an array of integers"),
    "merge unknown": ({"merges": ["a b", "a zzzz"]}, r"merges\[1\] 'a zzzz': 'zzzz' is not among"),
    "merge result": ({"merges": ["a \u0120"]}, "is not among the tokens"),
    "merge of one": ({"merges": ["ab"]}, r"merges\[0\] 'ab' -> two tokens"),
    "eos": ({"eos_token_id": 4096}, "eos_token_id 4096 -> 0 to 4095"),
    "bos": ({"bos_token_id": -1}, "bos_token_id -1 -> 0 to 4095"),
    "pad text": ({"padding_token_id": "0"}, "padding_token_id is a str -> int"),
    "flag": ({"add_bos_token": 1}, "add_bos_token is a int -> bool"),
    "bos wanted": ({"add_bos_token": True, "bos_token_id": None}, "there is no bos_token_id"),
    "eos wanted": ({"add_eos_token": True, "eos_token_id": None}, "there is no eos_token_id"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_broken_tokenizer_is_refused_in_one_line(case: str, model: GGUF) -> None:
    entries, message = ERRORS[case]
    with pytest.raises(GGUFError, match=rf"^\[tinycode-Q4_K_M\.gguf\] .*{message}"):
        read_tokenizer(changed(model, **entries))


def without(model: GGUF, byte: int) -> GGUF:
    """The model with no token for a byte."""
    tokens = list(model.metadata[PREFIX + "tokens"])
    tokens[tokens.index(byte_alphabet()[byte])] = "other"
    return changed(model, tokens=tokens, merges=[])


@pytest.mark.parametrize("byte", [0x0A, 0xF4])
def test_a_vocabulary_without_a_byte_is_refused(model: GGUF, byte: int) -> None:
    with pytest.raises(GGUFError, match=rf"lacks 1 of the byte tokens: 0x{byte:02x}"):
        read_tokenizer(without(model, byte))


@pytest.mark.parametrize("byte", [0xC0, 0xF5])
def test_bytes_that_no_text_has_may_lack_a_token(model: GGUF, byte: int) -> None:
    read_tokenizer(without(model, byte))


def test_the_first_token_of_a_merge_may_begin_with_a_space(model: GGUF) -> None:
    more = with_tokens(model, (" x", NORMAL), ("y", NORMAL), (" xy", NORMAL))
    read = json.loads(read_tokenizer(changed(more, merges=[" x y"])).tokenizer_json)
    assert read["model"]["merges"] in ([[" x", "y"]], [" x y"])


def test_tokens_that_are_not_utf8_are_refused(model: GGUF) -> None:
    with pytest.raises(GGUFError, match="text that is not UTF-8 near"):
        read_tokenizer(with_tokens(model, ("bad\udcff", NORMAL)))
