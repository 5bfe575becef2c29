"""Text to tokens and back; the way back token by token gives the same text as all at once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import tiny_export
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders

from ferrum.runtime.artifact import ArtifactError, TokenizerFiles
from ferrum.runtime.session_errors import BadText
from ferrum.runtime.tokenizer import Detokenizer, StopStrings, Tokenizer


def files(**changes: object) -> TokenizerFiles:
    values = {"file": "tokenizer.json", "chat_template": None, "bos": None, "eos": [],
              "pad": None, "add_bos": False}  # fmt: skip
    return TokenizerFiles.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return Tokenizer(tiny.parent / "tokenizer.json", files())


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.add(token) for token in ids), detokenizer.end()]


@pytest.mark.parametrize("text", ["", "the youth", "naïve café", "日本 \U0001f980!", "\n\t\x00 x"])
def test_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert "".join(streamed(tokenizer, ids)) == text


def test_an_added_token_is_written_as_it_reads(tiny: Path, tmp_path: Path) -> None:
    """Though its letters stand for bytes in all other tokens."""
    changed = tokenizers.Tokenizer.from_file(str(tiny.parent / "tokenizer.json"))
    changed.add_tokens([tokenizers.AddedToken("na\u00efve", normalized=False)])
    changed.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer(tmp_path / "tokenizer.json", files())
    assert ours.decode(ours.encode("a na\u00efve b")) == "a na\u00efve b"


def test_a_text_that_is_no_utf_8_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(BadText, match=r"^\[prompt\] character 2, got '.udcff' -> a text of UTF-8$"):
        tokenizer.encode("ab\udcff")


@pytest.mark.parametrize("text", ["", "the youth", "the youth " * 200])
def test_a_text_is_not_longer_than_it_is(tokenizer: Tokenizer, text: str) -> None:
    count = len(tokenizer.encode(text))
    assert not tokenizer.is_longer(text, count)
    assert not tokenizer.is_longer(text, max(0, count - 64))


def test_a_text_far_too_long_is_known_by_its_beginning(tokenizer: Tokenizer) -> None:
    assert tokenizer.is_longer("the youth " * 1_000_000, 1000)


def test_a_character_comes_out_with_its_last_byte(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a\U0001f980b")
    assert len(ids) == 6
    assert streamed(tokenizer, ids) == ["a", "", "", "", "\U0001f980", "b", ""]


def test_half_a_character_at_the_end_is_marked(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a\U0001f980")[:-1]
    assert streamed(tokenizer, ids) == ["a", "", "", "", "�"]


@given(st.lists(st.integers(0, tiny_export.VOCABULARY - 1), max_size=30))
def test_any_tokens_give_what_the_tokenizers_library_gives(tiny: Path, ids: list[int]) -> None:
    ours = Tokenizer(tiny.parent / "tokenizer.json", files())
    theirs = tiny_export.tokenizer().decode(ids, skip_special_tokens=True)
    assert ours.decode(ids) == theirs
    assert "".join(streamed(ours, ids)) == theirs


def test_special_tokens_are_read_but_not_shown(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>hi<|im_end|>")
    assert (ids[0], ids[-1]) == (tiny_export.IM_START, tiny_export.IM_END)
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.token(ids[0]) == "<|im_start|>"


@pytest.mark.parametrize("special", [False, True])
def test_tags_of_thoughts_and_calls_are_text_in_every_file(
    tiny: Path, tmp_path: Path, special: bool
) -> None:
    path = tmp_path / "tokenizer.json"
    tagged = tokenizers.Tokenizer.from_file(str(tiny.parent / "tokenizer.json"))
    tags = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    tagged.add_tokens([tokenizers.AddedToken(tag, special=special) for tag in tags])
    tagged.save(str(path))
    tokenizer = Tokenizer(path, files())
    ids = tokenizer.encode("".join(tags))
    assert len(ids) == 4
    assert tokenizer.decode(ids) == "".join(tags)


def test_the_first_token_is_added_where_the_model_wants_it(tiny: Path) -> None:
    path = tiny.parent / "tokenizer.json"
    wanting = Tokenizer(path, files(bos=7, add_bos=True))
    assert wanting.encode("a")[0] == 7
    assert wanting.encode("a", add_bos=False) == Tokenizer(path, files(bos=7)).encode("a")


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"version": "1.0"}'])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json") as caught:
        Tokenizer(path, files())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decoder", [None, decoders.Fuse()])
def test_a_tokenizer_of_another_kind_is_refused(
    tiny: Path, tmp_path: Path, decoder: decoders.Decoder | None
) -> None:
    path = tmp_path / "tokenizer.json"
    other = tokenizers.Tokenizer.from_file(str(tiny.parent / "tokenizer.json"))
    other.decoder = decoder
    other.save(str(path))
    with pytest.raises(ArtifactError, match=r"decoder is (None|Fuse) -> ByteLevel"):
        Tokenizer(path, files())


def shown(stops: list[str], pieces: list[str]) -> tuple[str, str | None]:
    stop = StopStrings(stops)
    text = "".join(stop.add(piece) for piece in pieces)
    return text + stop.end(), stop.found


def test_text_before_a_stop_string_is_shown_and_no_more() -> None:
    assert shown(["END"], ["abc E", "N", "Dxyz"]) == ("abc ", "END")
    assert shown(["END"], ["abc EN"]) == ("abc EN", None)
    assert shown(["aab"], ["a", "a", "a", "b"]) == ("a", "aab")


def test_what_may_become_a_stop_string_is_held_back() -> None:
    stop = StopStrings(["\n\n", "###"])
    assert [stop.add(piece) for piece in ("a\n", "b", "##", " \n")] == ["a", "\nb", "", "## "]


@given(
    text=st.text("ab", max_size=14),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 14), max_size=6),
)
def test_where_tokens_end_makes_no_difference(text: str, stops: list[str], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    ends = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in stops if stop in text]
    wanted = (text[: min(ends)[1]], min(ends)[2]) if ends else (text, None)
    assert shown(stops, pieces) == wanted
