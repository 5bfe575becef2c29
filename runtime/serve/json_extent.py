"""Where a JSON object in a stream of text ends, and where a value in it lies."""

from __future__ import annotations

import json
import re

_SPACE = re.compile(r"[ \t\n\r]*")
_CLOSES = {"{": "}", "[": "]"}


class JsonExtent:
    """Follows the brackets and strings of an object, from its first brace on, as its text comes.

    It tells an object's end, and what no JSON could have; that it is JSON in between is not said.
    """

    def __init__(self) -> None:
        self._open: list[str] = []  # what closes the brackets that are open
        self._in_string = self._escaped = False
        self.closed = self.broken = False

    def feed(self, text: str) -> int:
        """How many of these characters belong to the object; all, where it neither ends nor breaks.

        Not to be called again after that.
        """
        for i, character in enumerate(text):
            if self._in_string:
                self._string(character)
            elif character == '"':
                self._in_string = True
            elif character in _CLOSES:
                self._open.append(_CLOSES[character])
            elif character in "}]":
                self.broken = self._open.pop() != character
                self.closed = not self.broken and not self._open
            elif character == "<":  # a tag
                self.broken = True
            if self.broken:
                return i
            if self.closed:
                return i + 1
        return len(text)

    def _string(self, character: str) -> None:
        if character < " ":  # a new line, or another one that must be escaped
            self.broken = True
        elif self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False


def member_text(text: str, key: str) -> str:
    """The value of a key as it is written in a JSON object; of several the last, as json takes it.

    The object must have the key.
    """
    decoder, at, found = json.JSONDecoder(), text.index("{") + 1, ""
    while True:
        name, at = decoder.raw_decode(text, _after_space(text, at))
        begin = _after_space(text, _after_space(text, at) + 1)  # behind the colon
        _, at = decoder.raw_decode(text, begin)
        if name == key:
            found = text[begin:at]
        at = _after_space(text, at)
        if text[at] == "}":
            return found
        at += 1


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None
    return space.end()
