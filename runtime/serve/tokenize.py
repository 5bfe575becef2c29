"""POST /tokenize and /detokenize."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from ferrum.runtime.serve.chat_prompt import chat_prompt
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.intake import check_model, read
from ferrum.runtime.serve.protocol.tokens import DetokenizeRequest, TokenizeRequest
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.token_logprobs import token_text


async def tokenize(request: Request) -> Response:
    """A text, or a conversation, to token ids."""
    return await read(request, _tokenize)


async def detokenize(request: Request) -> Response:
    """Token ids to a text."""
    return await read(request, _detokenize)


def _tokenize(service: Service, body: bytes) -> Response:
    asked = TokenizeRequest.read(body)
    check_model(service, asked.model)
    tokenizer, ids = service.llm.tokenizer, _ids(service, asked)
    texts = [token_text(tokenizer, token) for token in ids] if asked.return_token_strs else None
    return _json(
        {
            "count": len(ids),
            "max_model_len": service.llm.session.longest(),
            "tokens": ids,
            "token_strs": texts,
        }
    )


def _ids(service: Service, asked: TokenizeRequest) -> list[int]:
    if (asked.prompt is None) == (asked.messages is None):
        raise ApiError(400, "[request] prompt -> that or messages", param="prompt")
    if asked.messages is not None:
        prompt = chat_prompt(
            service,
            asked.messages,
            asked.tools or [],
            asked.chat_template_kwargs or {},
            add_generation_prompt=asked.add_generation_prompt is not False,
        )
        return service.llm.tokenizer.encode(prompt.text, add_bos=False)
    assert asked.prompt is not None
    add_bos = None if asked.add_special_tokens is not False else False
    return service.llm.tokenizer.encode(asked.prompt, add_bos=add_bos)


def _detokenize(service: Service, body: bytes) -> Response:
    asked = DetokenizeRequest.read(body)
    check_model(service, asked.model)
    vocabulary, tokenizer = service.llm.session.vocabulary, service.llm.tokenizer
    for position, token in enumerate(asked.tokens):
        if token >= vocabulary:
            raise ApiError(
                400,
                f"[request] tokens[{position}], got {token} -> below {vocabulary}, "
                "the vocabulary's size",
                param=f"tokens[{position}]",
            )
    data = (tokenizer.token_bytes(t) or tokenizer.token(t).encode() for t in asked.tokens)
    return _json({"prompt": b"".join(data).decode("utf-8", "replace")})


def _json(answer: dict[str, Any]) -> Response:
    # Millions of tokens keep the interpreter's lock a tenth as long as with the json module.
    return Response(to_json(answer), media_type="application/json")
