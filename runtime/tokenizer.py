"""Text to token ids and back, the way back also token by token."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer
from tokenizers.decoders import ByteLevel

from ferrum.runtime.artifact import ArtifactError, TokenizerFiles
from ferrum.runtime.session_errors import BadText
from ferrum.runtime.tags import TAGS

_PIECE = 1 << 16  # characters


class Tokenizer:
    """tokenizer.json, a byte-level one: every token stands for some bytes of UTF-8."""

    def __init__(self, path: Path, files: TokenizerFiles) -> None:
        self.files = files
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ArtifactError(
                f"[{path}] not a tokenizer: {' '.join(str(error).split())}"
            ) from error
        decoder = self._tokenizer.decoder
        if not isinstance(decoder, ByteLevel):
            kind = None if decoder is None else type(decoder).__name__
            raise ArtifactError(f"[{path}] decoder is {kind} -> ByteLevel, as ferrum-build writes")
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = frozenset(added)
        # Thoughts and tool calls are told by their tags, so those are text in every file.
        self._special = {
            token for token, how in added.items() if how.special and how.content not in TAGS
        }
        self._alphabet = _byte_alphabet()
        self._bytes: dict[int, bytes] = {}  # of the tokens that have been asked for

    def __len__(self) -> int:
        """How many ids have a token."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """Ids of a text; special tokens that it spells out, such as <|im_start|>, are recognized.

        `add_bos` None puts the model's first token in front where the model wants it. BadText for
        one that is no UTF-8.
        """
        # Of a batch, even of one: that lets go of the interpreter's lock, under which nothing else
        # would get on for the second that a text of megabytes takes.
        try:
            (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        except TypeError:  # what the tokenizers library says of lone surrogates
            raise BadText(_why_not_text(text)) from None
        ids: list[int] = encoding.ids
        wanted = self.files.add_bos if add_bos is None else add_bos
        return [self.files.bos, *ids] if wanted and self.files.bos is not None else ids

    def is_longer(self, text: str, most: int) -> bool:
        """Whether a text has far more than `most` tokens; at the cost of that many alone.

        Pieces of it are counted, of which each cut may make a few more than the whole has.
        """
        if len(text) <= 4 * most:
            return False
        count = 0
        for start in range(0, len(text), _PIECE):
            count += len(self.encode(text[start : start + _PIECE], add_bos=False))
            if count > most + most // 4 + 64:
                return True
        return False

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token(self, token: int) -> str:
        """How the vocabulary writes a token; empty for an id without one."""
        return self._tokenizer.id_to_token(token) or ""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token adds to a text; none for special tokens and unused ids."""
        if token not in self._bytes:
            self._bytes[token] = self._spelled(token)
        return self._bytes[token]

    def _spelled(self, token: int) -> bytes:
        written = self._tokenizer.id_to_token(token)
        if written is None or token in self._special:
            return b""
        if token in self._added:  # which is written as it reads
            return str(written).encode()
        return bytes(self._alphabet[character] for character in written)


class Detokenizer:
    """Text from one token after the other; a character comes out when its last byte is there."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """The text that this token completes."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def end(self) -> str:
        """What was held back: U+FFFD where the last character is incomplete."""
        return self._decoder.decode(b"", final=True)


class StopStrings:
    """Passes text on until a stop string begins; text that may be its beginning is held back."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def add(self, text: str) -> str:
        """The part of all text so far that is safe to show and was not shown yet."""
        if self.found is not None:
            return ""
        self._held += text
        starts = [(self._held.find(stop), stop) for stop in self._stops]
        # The one that is complete first counts, so that where tokens end makes no difference.
        matches = [(at + len(stop), at, stop) for at, stop in starts if at >= 0]
        if matches:
            _, first, self.found = min(matches)
            shown, self._held = self._held[:first], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def end(self) -> str:
        """What was held back, when no more text comes."""
        shown, self._held = self._held, ""
        return shown


def _why_not_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"[prompt] character {error.start}, got {text[error.start]!r} -> a text of UTF-8"
    return f"[prompt] got {type(text).__name__} -> a text"


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a proper beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def _byte_alphabet() -> dict[str, int]:
    """The character that byte-level BPE (GPT-2) writes for each byte.

    Printable Latin-1 characters stand for themselves; the other bytes take, in order, the
    characters from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(others)}
