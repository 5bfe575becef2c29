"""A request's body to a key that all requests of its conversation share.

A conversation grows at its end, so its beginning names it: what stands before the first answer of
a chat, or the first characters of a text. The replica that has computed one request of a key holds
the blocks that the next one wants.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

# What two texts must have in common at the least to be taken for one conversation: about a block.
_CHARACTERS, _TOKENS = 128, 32


def prefix_key(path: str, body: bytes) -> str:
    """The key of a request to this path; "" where it has none or cannot be read.

    OpenAI's own field for this, `prompt_cache_key`, wins where a client sends it.
    """
    beginning = {"/v1/chat/completions": _chat, "/v1/completions": _text}.get(path)
    if beginning is None:
        return ""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):  # the replica says what is wrong with it
        return ""
    if not isinstance(request, dict):
        return ""
    given = request.get("prompt_cache_key")
    shared = given if isinstance(given, str) and given else beginning(request)
    if not shared:
        return ""
    text = json.dumps(shared, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _chat(request: dict[str, Any]) -> Any:
    """The messages to the first of the user's, and the tools, which templates put before them."""
    messages = request.get("messages")
    if not isinstance(messages, list):
        return None
    for index, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return [request.get("tools"), messages[: index + 1]]
    return [request.get("tools"), messages] if messages else None


def _text(request: dict[str, Any]) -> Any:
    """The beginning of the prompt, or of the first of several."""
    prompt = request.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt[:_CHARACTERS]
    return prompt[:_TOKENS] if isinstance(prompt, list) else None
