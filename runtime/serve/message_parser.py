"""A model's text, as it streams, to content, reasoning and tool calls.

Qwen3 writes <think>…</think> before its answer, and calls as
<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>. How the text is cut into pieces makes no
difference to what comes out, only to when.

A call begins once its name and the first brace of its arguments are there; from then on it is one,
and its arguments are handed on as they come, whatever they turn out to be: their JSON is for the
caller to check, as with OpenAI's API. Where that beginning is not what it should be, the text is
content, tag and all; where a limit has cut it off, it is nothing.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from ferrum.runtime.serve.json_extent import JsonExtent, member_text
from ferrum.runtime.tags import END_THINK, END_TOOL_CALL, THINK, TOOL_CALL

_SPACE = " \t\r\n"
_S = f"[{_SPACE}]*"
_CALL_BEGINS = re.compile(rf'{_S}(\{{{_S}("|\}}|\Z)|\Z)')
_NAME = r'"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*"'
_HEAD = re.compile(rf'{_S}\{{{_S}"name"{_S}:{_S}({_NAME}){_S},{_S}"arguments"{_S}:{_S}(?=\{{)')
_LONGEST_HEAD = 4096  # characters, as it is looked for at every piece until it is there
_BRACE_AT_END = re.compile(rf"{_S}(\}}{_S})?\Z")


@dataclass(frozen=True)
class ToolCallDelta:
    """A part of a call; id and name come with its first part only."""

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True)
class Delta:
    """What a piece of text adds to a message."""

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


class MessageParser:
    """Takes one message apart. Text is held back while it may become a tag, or white space
    before one.

    White space around reasoning is dropped, as are new lines after a tag and white space before a
    call where no text follows it.
    """

    def __init__(
        self,
        *,
        reasoning_open: bool,
        parse_tools: bool,
        parse_reasoning: bool = True,
        calls_only: bool = False,
    ) -> None:
        """`reasoning_open` where the prompt ended in <think>, so that the text goes on with it.
        With `calls_only` no content is told, as there is none but what a limit has cut off."""
        self._reasoning_open, self._parse_tools = reasoning_open, parse_tools
        self._calls_only = calls_only
        self._text = ""  # that no state has taken yet
        # Takes what it can from the text; whether another state is to look at the rest.
        self._state: Callable[[], bool] = self._start if parse_reasoning else self._in_content
        self._ended = self._cut_off = False
        self._trim = False  # new lines at the beginning of the text are to be dropped
        self._space = ""  # white space after the content so far
        self._shown = self._after_call = self._unclosed = False
        self._calls = 0
        self._extent = JsonExtent()
        self._followed = 0  # characters of the text that the extent has seen
        self._clear()

    def add(self, text: str) -> Delta:
        """What can be told since this text came."""
        self._text += text
        if self._text:
            while self._state():
                pass
        return self._taken()

    def end(self, *, cut_off: bool = False) -> Delta:
        """What was held back, when no more text comes; `cut_off` where a limit is why."""
        self._ended, self._cut_off = True, cut_off
        while self._state():
            pass
        if not self._after_call:
            self._content += self._space
            self._space = ""
        return self._taken()

    def _start(self) -> bool:
        """The message's beginning, where <think> may stand."""
        text = self._text.lstrip(_SPACE)
        if text.startswith(THINK):
            self._go(self._in_reasoning, text[len(THINK) :], trim=True)
        elif THINK.startswith(text) and not self._ended:
            return False
        elif self._reasoning_open:
            self._go(self._in_reasoning, self._text, trim=True)
        else:
            self._go(self._in_content, self._text)
        return True

    def _in_reasoning(self) -> bool:
        self._trimmed()
        thoughts, tag, rest = self._text.partition(END_THINK)
        if tag:
            self._reasoning += thoughts.rstrip(_SPACE)
            self._go(self._in_content, rest, trim=True)
            return True
        whole = len(self._text) if self._ended else self._before_tag(END_THINK)
        if not self._ended:
            whole = len(self._text[:whole].rstrip(_SPACE))
        self._reasoning += self._take(whole)
        return False

    def _in_content(self) -> bool:
        self._trimmed()
        if not self._parse_tools:
            self._content += self._take(len(self._text))
            return False
        tags = [TOOL_CALL, END_TOOL_CALL] if self._unclosed else [TOOL_CALL]
        found = [(at, tag) for tag in tags if (at := self._text.find(tag)) >= 0]
        if not found:
            self._show(self._take(self._before_tag(*tags)))
            if self._ended and not (self._unclosed and self._after_call):
                self._show(self._take(len(self._text)))  # else a call's tag that was cut off
            return False
        at, tag = min(found)
        self._show(self._take(at))
        self._take(len(tag))
        self._unclosed = False
        if tag == END_TOOL_CALL:
            self._trim = True
        else:
            self._go(self._in_call, self._text)
        return True

    def _in_call(self) -> bool:
        """After <tool_call>, until it is sure that this is a call."""
        head = _HEAD.match(self._text, 0, _LONGEST_HEAD)
        name = None if head is None else _name(head[1])
        if head is not None and name is not None:
            self._begin_call(name, "")
            self._go(self._in_arguments, self._text[head.end() :])
            return True
        if head is not None or not _CALL_BEGINS.match(self._text):
            return self._no_call()
        # Perhaps the arguments come first, or there are none: the whole object tells.
        start = max(self._followed, len(self._text) - len(self._text.lstrip(_SPACE)))
        self._followed = start + self._extent.feed(self._text[start:])
        if self._extent.closed:
            call = _whole_call(self._text[: self._followed])
            if call is None:
                return self._no_call()
            self._begin_call(*call)
            self._unclosed = True
            self._go(self._in_content, self._text[self._followed :], trim=True)
            return True
        if self._extent.broken or (self._ended and not self._cut_off):
            return self._no_call()
        if self._ended:  # cut off: neither that is told nor the white space before it
            self._after_call = True
        return False

    def _no_call(self) -> bool:
        self._show(TOOL_CALL)
        self._go(self._in_content, self._text)
        return True

    def _in_arguments(self) -> bool:
        extent = self._extent
        self._argue(self._take(extent.feed(self._text)))
        if extent.closed:
            self._go(self._after_arguments, self._text)
        elif extent.broken:
            self._go(self._in_broken_arguments, self._text)
        return extent.closed or extent.broken

    def _after_arguments(self) -> bool:
        """Before the brace that closes the call's object; what else stands there is content."""
        text = self._text.lstrip(_SPACE)
        if not text and not self._ended:
            return False
        self._unclosed = True
        self._go(self._in_content, text.removeprefix("}"), trim=True)
        return True

    def _in_broken_arguments(self) -> bool:
        """Arguments that are no JSON go on to the tag, but for the call's own last brace."""
        arguments, tag, rest = self._text.partition(END_TOOL_CALL)
        if tag:
            self._argue(_BRACE_AT_END.sub("", arguments))
            self._go(self._in_content, rest, trim=True)
            return True
        whole = len(self._text)
        if not self._ended:
            held = _BRACE_AT_END.search(self._text, 0, self._before_tag(END_TOOL_CALL))
            assert held is not None
            whole = held.start()
        self._argue(self._take(whole))
        return False

    def _begin_call(self, name: str, arguments: str) -> None:
        self._parts.append(
            ToolCallDelta(self._calls, f"call_{secrets.token_hex(12)}", name, arguments)
        )
        self._calls += 1
        self._after_call = True
        if not self._shown:
            self._space = ""

    def _argue(self, arguments: str) -> None:
        """More of the last call's arguments."""
        if not arguments:
            return
        if self._parts:
            last = self._parts[-1]
            self._parts[-1] = replace(last, arguments=last.arguments + arguments)
        else:
            self._parts.append(ToolCallDelta(self._calls - 1, None, None, arguments))

    def _show(self, text: str) -> None:
        """Content, but for the white space at its end, which a call might follow."""
        if self._calls_only:
            return
        text = self._space + text
        shown = text.rstrip(_SPACE)
        self._space = text[len(shown) :]
        if shown:
            self._content += shown
            self._shown, self._after_call = True, False

    def _go(self, state: Callable[[], bool], text: str, *, trim: bool = False) -> None:
        """The next state, and the text that it begins with."""
        self._state, self._text, self._trim = state, text, trim
        self._extent, self._followed = JsonExtent(), 0

    def _trimmed(self) -> None:
        if self._trim:
            self._text = self._text.lstrip("\r\n")
            self._trim = not self._text

    def _take(self, count: int) -> str:
        taken, self._text = self._text[:count], self._text[count:]
        return taken

    def _before_tag(self, *tags: str) -> int:
        """How many characters of the text cannot be part of a tag that has not come whole."""
        start = self._text.rfind("<")
        if start >= 0 and any(tag.startswith(self._text[start:]) for tag in tags):
            return start
        return len(self._text)

    def _clear(self) -> None:
        self._content = self._reasoning = ""
        self._parts: list[ToolCallDelta] = []

    def _taken(self) -> Delta:
        delta = Delta(self._content, self._reasoning, tuple(self._parts))
        self._clear()
        return delta


def _name(literal: str) -> str | None:
    """The name that a JSON string spells; None where it spells none."""
    try:
        return str(json.loads(literal)) or None
    except ValueError:
        return None


def _whole_call(text: str) -> tuple[str, str] | None:
    """Name and arguments of an object that is a call."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    name, arguments = call.get("name"), call.get("arguments")
    if not call.keys() <= {"name", "arguments"} or not isinstance(name, str) or not name:
        return None
    if isinstance(arguments, dict):  # as they came: numbers and double keys too
        return name, member_text(text, "arguments")
    if isinstance(arguments, str):  # JSON within JSON, as OpenAI's own API has it
        return name, arguments
    return (name, "{}") if arguments is None else None
