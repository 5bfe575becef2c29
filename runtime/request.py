"""A prompt on its way to a completion: its tokens, its sampler, and the text that may be shown."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Literal

from ferrum.runtime.logits import LogitsRow
from ferrum.runtime.logprobs import TokenLogprobs, token_logprobs
from ferrum.runtime.mask_ahead import MaskAhead
from ferrum.runtime.prefix_cache import Chain
from ferrum.runtime.sampler import Sampler, SamplingParams
from ferrum.runtime.sequence import Sequence
from ferrum.runtime.speculation import Drafter
from ferrum.runtime.tokenizer import Detokenizer, StopStrings, Tokenizer

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Piece:
    """One generated token and the text that can be shown since it came.

    The text may be empty (half a character, what may become a stop string, an end token), and the
    last piece's holds what was held back.
    """

    token: int
    text: str
    logprobs: TokenLogprobs | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Timings:
    """Seconds from the request's arrival; `first_token` is where the prompt's work ends."""

    first_token: float
    total: float

    @property
    def generation(self) -> float:
        """Seconds after the first token."""
        return self.total - self.first_token


@dataclass(frozen=True)
class Completion:
    """What became of a prompt."""

    text: str
    token_ids: list[int]  # all that were sampled, the one that ended the text included
    finish_reason: FinishReason
    stop_reason: str | int | None  # the stop string or end token
    prompt_tokens: int
    logprobs: list[TokenLogprobs] | None  # of token_ids
    timings: Timings
    cached_tokens: int = 0  # of the prompt, those that were in the caches already


@dataclass(eq=False)
class Request:
    """A sequence in the making; `sequence` says what of `tokens` is in the caches."""

    sequence: Sequence
    tokens: list[int]  # prompt and what was generated
    params: SamplingParams
    sampler: Sampler
    longest: int  # most tokens that the sequence may have
    ends: frozenset[int]  # tokens that end the text
    detokenizer: Detokenizer
    stops: StopStrings
    prompt_tokens: int
    chain: Chain  # of tokens
    mask: MaskAhead | None = None  # the parameters' own, computed while the graph runs
    drafter: Drafter = field(default_factory=Drafter)
    priority: int = 0  # those of lower value are served earlier
    arrival: int = 0  # the scheduler's
    admitted: bool = False  # whether it has ever run
    cached_tokens: int = 0  # of the prompt, those that were in the caches when it first ran
    pieces: deque[Piece] = field(default_factory=deque)  # not yet taken by the caller
    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    error: Exception | None = None
    arrived: float = field(default_factory=time.perf_counter)
    first_token: float | None = None
    finished: float | None = None

    @classmethod
    def of(
        cls,
        sequence: Sequence,
        prompt: Items[int],
        params: SamplingParams,
        tokenizer: Tokenizer,
        *,
        vocabulary: int,
        longest: int,
        priority: int = 0,
    ) -> Request:
        """A request that has run nothing yet."""
        eos = () if params.ignore_eos else tokenizer.files.eos
        tokens = list(prompt)
        mask = None if params.mask is None else MaskAhead(params.mask)
        return cls(
            sequence=sequence,
            tokens=tokens,
            params=params,
            sampler=Sampler(params.model_copy(update={"mask": mask}), prompt, vocabulary),
            longest=longest,
            ends=frozenset((*eos, *params.stop_token_ids)),
            detokenizer=Detokenizer(tokenizer),
            stops=StopStrings(params.stop),
            prompt_tokens=len(prompt),
            chain=Chain(tokens, sequence.pool.block_size),
            mask=mask,
            priority=priority,
        )

    @property
    def generated(self) -> list[int]:
        """The tokens after the prompt."""
        return self.tokens[self.prompt_tokens :]

    @property
    def wanted(self) -> int:
        """How many more tokens it may get."""
        return self._limit() - len(self.tokens)

    def advance(self, logits: LogitsRow) -> None:
        """Sample the next token from a row of logits and pass its text on."""
        token = self._sample(logits)
        logprobs = None
        if self.params.logprobs is not None:
            logprobs = _logprobs(logits, token, self.params.logprobs)
            self.logprobs.append(logprobs)
        if self.first_token is None:
            self.first_token = time.perf_counter()
        self.tokens.append(token)
        if token in self.ends:
            self._finish("stop", token)
            text = ""
        else:
            text = self.stops.add(self.detokenizer.add(token))
            if self.stops.found is not None:
                self._finish("stop", self.stops.found)
            elif len(self.tokens) >= self._limit():
                self._finish("length", None)
        if self.finish_reason is not None and self.stops.found is None:
            text += self._rest()
            if self.finish_reason == "length" and self.stops.found is not None:
                self._finish("stop", self.stops.found)
        self.text.append(text)
        self.pieces.append(Piece(token, text, logprobs, self.finish_reason))

    def cancel(self) -> None:
        """End it where it is."""
        if self.finish_reason is None:
            self._finish("cancelled", None)
            self.text.append(self._rest())

    def fail(self, error: Exception) -> None:
        """End it with an error, for its owner to raise."""
        self.error = error
        self._finish("error", None)

    def completion(self) -> Completion:
        """The result, once it is finished; raises what it failed with."""
        if self.error is not None:
            raise self.error
        assert self.finish_reason is not None
        assert self.finished is not None
        first = self.finished if self.first_token is None else self.first_token
        return Completion(
            text="".join(self.text),
            token_ids=self.generated,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            prompt_tokens=self.prompt_tokens,
            logprobs=None if self.params.logprobs is None else self.logprobs,
            timings=Timings(first - self.arrived, self.finished - self.arrived),
            cached_tokens=self.cached_tokens,
        )

    def _sample(self, logits: LogitsRow) -> int:
        token = None
        if logits.likeliest is not None:
            token = self.sampler.pick_among(logits.likeliest)
        if token is None:
            generated = self.generated if self.params.mask else ()
            token = self.sampler.pick(logits.all(), generated)
        return token

    def _limit(self) -> int:
        if self.params.max_tokens is None:
            return self.longest
        return min(self.longest, self.prompt_tokens + self.params.max_tokens)

    def _finish(self, reason: FinishReason, why: str | int | None) -> None:
        self.finish_reason, self.stop_reason = reason, why
        self.finished = time.perf_counter()

    def _rest(self) -> str:
        """The text still held back."""
        return self.stops.add(self.detokenizer.end()) + self.stops.end()


def _logprobs(logits: LogitsRow, token: int, count: int) -> TokenLogprobs:
    if logits.likeliest is not None:
        known = logits.likeliest.logprobs(token, count)
        if known is not None:
            return known
    return token_logprobs(logits.all(), token, count)
