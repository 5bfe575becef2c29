"""Log-probabilities of tokens as either endpoint writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrum.runtime.logprobs import TokenLogprobs
from ferrum.runtime.tokenizer import Detokenizer, Tokenizer

_LOWEST = -9999.0  # JSON has no infinities


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token as text: special ones spelled out, and those that are no whole characters as
    "bytes:" and escapes, which is how OpenAI tells them apart."""
    data = tokenizer.token_bytes(token)
    if not data:
        return tokenizer.token(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_logprobs(
    tokenizer: Tokenizer, tokens: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
) -> dict[str, Any]:
    """`logprobs` of a choice of /v1/chat/completions."""
    content = [
        {
            **_entry(tokenizer, token, known.logprob),
            "top_logprobs": [_entry(tokenizer, other, value) for other, value in known.top],
        }
        for token, known in zip(tokens, logprobs, strict=True)
        if known is not None
    ]
    return {"content": content, "refusal": None}


class TextLogprobs:
    """`logprobs` of a choice of /v1/completions, which count the characters before each token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._text, self._offset = tokenizer, Detokenizer(tokenizer), 0

    def of(self, tokens: Sequence[int], logprobs: Sequence[TokenLogprobs | None]) -> dict[str, Any]:
        """Those of the next tokens."""
        found: dict[str, list[Any]] = {
            "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []
        }  # fmt: skip
        for token, known in zip(tokens, logprobs, strict=True):
            if known is None:
                continue
            values = {token: known.logprob, **dict(known.top)}
            found["tokens"].append(token_text(self._tokenizer, token))
            found["token_logprobs"].append(max(known.logprob, _LOWEST))
            found["top_logprobs"].append(
                {token_text(self._tokenizer, i): max(value, _LOWEST) for i, value in values.items()}
            )
            found["text_offset"].append(self._offset)
            self._offset += len(self._text.add(token))
        return found


def _entry(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    text = token_text(tokenizer, token)
    data = tokenizer.token_bytes(token) or text.encode()
    return {"token": text, "logprob": max(logprob, _LOWEST), "bytes": list(data)}
