"""The tags by which Qwen3 marks thoughts and tool calls in what it writes.

In its vocabulary each is a token of its own, and text like any other; a file may declare them
special tokens, and in a vocabulary without them they are spelled out.
"""

from __future__ import annotations

THINK, END_THINK = "<think>", "</think>"
TOOL_CALL, END_TOOL_CALL = "<tool_call>", "</tool_call>"

TAGS = frozenset((THINK, END_THINK, TOOL_CALL, END_TOOL_CALL))
