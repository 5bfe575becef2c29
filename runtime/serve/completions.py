"""POST /v1/completions."""

from __future__ import annotations

import time
import uuid

from starlette.requests import Request

from ferrum.runtime.request import Completion, FinishReason, Piece
from ferrum.runtime.serve.constraint import constraint_of
from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.generation import Generation
from ferrum.runtime.serve.intake import check_model, check_prompt, encoded
from ferrum.runtime.serve.protocol.completions import CompletionRequest
from ferrum.runtime.serve.respond import Form, Generate, Growing, Item, Respond
from ferrum.runtime.serve.sampling_checks import check_sampling
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.token_logprobs import TextLogprobs

_MAX_TOKENS = 16  # OpenAI's default, which surprises fewer than another would


async def completions(request: Request) -> Generate:
    """Continue texts."""
    return Generate(request, _prepare)


def _prepare(service: Service, body: bytes) -> Respond:
    asked = CompletionRequest.read(body)
    check_model(service, asked.model)
    prompts = _prompts(asked)
    check_sampling(service, asked, prompts=len(prompts))
    _check(asked)
    ids = [
        _tokens(service, prompt, f"prompt[{i}]" if len(prompts) > 1 else "prompt")
        for i, prompt in enumerate(prompts)
    ]
    params = [
        asked.params(choice, max_tokens=asked.max_tokens or _MAX_TOKENS, logprobs=asked.logprobs)
        for choice in range(asked.choices)
    ]
    generation = Generation(
        prompts=ids,
        params=[params] * len(ids),
        priority=asked.priority or 0,
        param="prompt",
        constraint=constraint_of(asked, service.grammars),
    )
    return Respond(service, generation, TextForm(service, asked, prompts))


def _prompts(asked: CompletionRequest) -> list[str | list[int]]:
    """The prompts, each a text or token ids."""
    prompt = asked.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    return [one for one in prompt if not isinstance(one, int)]


def _tokens(service: Service, prompt: str | list[int], param: str) -> list[int]:
    if isinstance(prompt, str):
        return encoded(service, prompt, param)
    check_prompt(service, prompt, param)
    return prompt


def _check(asked: CompletionRequest) -> None:
    """ApiError (400) for fields that do not go together."""
    if asked.echo and asked.logprobs is not None:
        # The prompt's own would have to be computed, which takes all of its tokens' logits.
        raise ApiError(400, "[request] logprobs -> not with echo", param="logprobs")
    if asked.best_of is not None and asked.best_of != asked.choices:
        raise ApiError(
            400, f"[request] best_of, got {asked.best_of} -> n ({asked.choices})", param="best_of"
        )


class TextForm(Form):
    """Texts as they are."""

    def __init__(
        self, service: Service, asked: CompletionRequest, prompts: list[str | list[int]]
    ) -> None:
        super().__init__(
            asked,
            {
                "id": f"cmpl-{uuid.uuid4().hex}",
                "object": "text_completion",
                "created": int(time.time()),
                "model": service.model_name,
            },
        )
        self._tokenizer, self._prompts = service.llm.tokenizer, prompts
        self._choices, self._echo = asked.choices, bool(asked.echo)
        self._logprobs = asked.logprobs is not None

    def choice(self, index: int, done: Completion) -> Item:
        logprobs = None
        if self._logprobs:
            logprobs = TextLogprobs(self._tokenizer).of(done.token_ids, done.logprobs or [])
        return _item(index, self._echoed(index) + done.text, logprobs, done.finish_reason)

    def growing(self, index: int) -> Growing:
        logprobs = TextLogprobs(self._tokenizer) if self._logprobs else None
        return _GrowingText(index, self._echoed(index), logprobs)

    def _echoed(self, index: int) -> str:
        """What a choice's text begins with."""
        if not self._echo:
            return ""
        prompt = self._prompts[index // self._choices]
        return prompt if isinstance(prompt, str) else self._tokenizer.decode(prompt)


class _GrowingText:
    """A text of a stream."""

    def __init__(self, index: int, echoed: str, logprobs: TextLogprobs | None) -> None:
        self._index, self._unsent, self._logprobs = index, echoed, logprobs

    def add(self, pieces: list[Piece]) -> list[Item]:
        text = self._unsent + "".join([piece.text for piece in pieces])
        self._unsent = ""
        logprobs = None
        if self._logprobs is not None:
            logprobs = self._logprobs.of([p.token for p in pieces], [p.logprobs for p in pieces])
        return [_item(self._index, text, logprobs)] if text or logprobs else []

    def end(self, reason: FinishReason, tail: str) -> list[Item]:
        return [_item(self._index, self._unsent + tail, None, reason)]


def _item(
    index: int, text: str, logprobs: Item | None = None, finish_reason: str | None = None
) -> Item:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
