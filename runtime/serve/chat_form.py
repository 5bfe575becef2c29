"""Generated texts to the messages of /v1/chat/completions, whole or growing."""

from __future__ import annotations

import time
import uuid

from ferrum.runtime.request import Completion, FinishReason, Piece
from ferrum.runtime.serve.chat_prompt import ChatPrompt
from ferrum.runtime.serve.message_parser import Delta, MessageParser
from ferrum.runtime.serve.protocol.chat import ChatRequest
from ferrum.runtime.serve.respond import Form, Growing, Item
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.token_logprobs import chat_logprobs
from ferrum.runtime.tokenizer import Tokenizer


class ChatForm(Form):
    """Texts as an assistant's messages."""

    def __init__(self, service: Service, asked: ChatRequest, prompt: ChatPrompt) -> None:
        super().__init__(
            asked,
            {
                "id": f"chatcmpl-{uuid.uuid4().hex}",
                "object": "chat.completion.chunk" if asked.stream else "chat.completion",
                "created": int(time.time()),
                "model": service.model_name,
            },
        )
        self._tokenizer, self._reasoning_open = service.llm.tokenizer, prompt.thinking == "open"
        self._tools = bool(asked.tools) and asked.tool_choice != "none"
        self._forced = self._tools and asked.tool_choice not in (None, "auto")
        self._logprobs = bool(asked.logprobs)

    def choice(self, index: int, done: Completion) -> Item:
        parser = self._parser()
        deltas = [parser.add(done.text), parser.end(cut_off=done.finish_reason == "length")]
        calls = _calls(deltas)
        content: str | None = "".join(delta.content for delta in deltas)
        if calls or self._forced:
            content = content or None
        message: Item = {"role": "assistant", "content": content, "refusal": None}
        reasoning = "".join(delta.reasoning for delta in deltas)
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        logprobs = None
        if self._logprobs:
            logprobs = chat_logprobs(self._tokenizer, done.token_ids, done.logprobs or [])
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": _reason(done.finish_reason, bool(calls)),
        }

    def growing(self, index: int) -> Growing:
        return _GrowingMessage(index, self._parser(), self._tokenizer if self._logprobs else None)

    def _parser(self) -> MessageParser:
        return MessageParser(
            reasoning_open=self._reasoning_open,
            parse_tools=self._tools,
            calls_only=self._forced,
        )


class _GrowingMessage:
    """A message of a stream; log-probabilities come with it where a tokenizer spells them."""

    def __init__(self, index: int, parser: MessageParser, tokenizer: Tokenizer | None) -> None:
        self._index, self._parser, self._tokenizer = index, parser, tokenizer
        self._begun = self._called = False

    def add(self, pieces: list[Piece]) -> list[Item]:
        fields = self._fields(self._parser.add("".join([piece.text for piece in pieces])))
        logprobs = None
        if self._tokenizer is not None:
            logprobs = chat_logprobs(
                self._tokenizer, [p.token for p in pieces], [p.logprobs for p in pieces]
            )
        if self._begun and not fields and logprobs is None:
            return []
        return [self._item(fields, logprobs)]

    def end(self, reason: FinishReason, tail: str) -> list[Item]:
        rest = [self._parser.add(tail), self._parser.end(cut_off=reason == "length")]
        items = [self._item(fields) for delta in rest if (fields := self._fields(delta))]
        return [*items, self._item({}, None, _reason(reason, self._called))]

    def _fields(self, delta: Delta) -> Item:
        fields: Item = {}
        if delta.content:
            fields["content"] = delta.content
        if delta.reasoning:
            fields["reasoning_content"] = delta.reasoning
        if delta.tool_calls:
            self._called = True
            fields["tool_calls"] = [
                {"index": call.index, "function": {"arguments": call.arguments}}
                if call.id is None
                else {
                    "index": call.index,
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in delta.tool_calls
            ]
        return fields

    def _item(
        self, fields: Item, logprobs: Item | None = None, finish_reason: str | None = None
    ) -> Item:
        if not self._begun:
            self._begun = True
            fields = {"role": "assistant", "content": "", **fields}
        return {
            "index": self._index,
            "delta": fields,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }


def _calls(deltas: list[Delta]) -> list[Item]:
    """The calls that the deltas are parts of."""
    calls: dict[int, Item] = {}
    for part in (part for delta in deltas for part in delta.tool_calls):
        if part.index not in calls:
            calls[part.index] = {
                "id": part.id,
                "type": "function",
                "function": {"name": part.name, "arguments": ""},
            }
        calls[part.index]["function"]["arguments"] += part.arguments
    return list(calls.values())


def _reason(reason: FinishReason, called: bool) -> str:
    return "tool_calls" if called and reason == "stop" else reason
