"""Many requests through one session: schedule, run, sample, commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Items

from ferrum.runtime.logits import LogitsRow
from ferrum.runtime.request import Request
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.scheduler import Piece, Scheduler
from ferrum.runtime.session import Session
from ferrum.runtime.tokenizer import Tokenizer


class Engine:
    """Requests that are waiting or running; each `step` advances as many as it can."""

    def __init__(self, session: Session, tokenizer: Tokenizer) -> None:
        self.session, self._tokenizer, self._clock = session, tokenizer, session.clock
        self._abandoned: deque[Request] = deque()
        self.scheduler: Scheduler[Request] = Scheduler(
            session.pool, session.max_sequences, session.step_tokens
        )

    def add(self, prompt: Items[int], params: SamplingParams) -> Request:
        """A new request at the end of the line; SessionError where it could never run."""
        # One more than the prompt: a prompt that fills the context leaves no room for an answer.
        self.session.check(prompt, beyond=1)
        request = Request.of(
            self.session.sequence(),
            prompt,
            params,
            self._tokenizer,
            vocabulary=self.session.vocabulary,
            longest=self.session.longest(),
        )
        self.scheduler.add(request)
        return request

    def cancel(self, request: Request) -> None:
        """End a request where it is; its blocks are free at once."""
        if request.finish_reason is None:
            self.scheduler.remove(request)
            request.cancel()

    def cancel_all(self) -> None:
        """End every request where it is."""
        for request in [*self.scheduler.running, *self.scheduler.waiting]:
            self.cancel(request)

    def abandon(self, request: Request) -> None:
        """Cancel a request before the next step: safe at any moment and from any thread."""
        self._abandoned.append(request)

    def drop_abandoned(self) -> None:
        """Cancel the requests that nobody waits for any more."""
        while self._abandoned:
            self.cancel(self._abandoned.popleft())

    def step(self) -> None:
        """Run one step. Requests that finish in it, or whose sampling fails, leave the line."""
        self.drop_abandoned()
        with self._clock.measure("step"):
            batch = self.scheduler.next_batch()
            assert batch, "a request fits into an empty pool, so there is always one to run"
            self._clock.steps += 1
            try:
                logits = self.session.run([(p.request.sequence, _tokens(p)) for p in batch])
                with self._clock.measure("sample"):
                    rows = logits.rows([_scale(piece.request) for piece in batch])
                    for piece, row in zip(batch, rows, strict=True):
                        self._commit(piece.request, row)
            except BaseException:
                # Ctrl-C between the run and the sampling: those tokens' logits are lost, so the
                # last token of each runs once more, into the slots that it has.
                for piece in batch:
                    _run_last_again(piece.request)
                raise

    def _commit(self, request: Request, logits: LogitsRow) -> None:
        if _unfinished(request):
            return
        try:
            request.advance(logits)
        except Exception as error:  # a mask is the caller's code, and fails for its request alone
            request.fail(error)
        if request.finish_reason is not None:
            self.scheduler.remove(request)


def _tokens(piece: Piece[Request]) -> list[int]:
    start = piece.request.sequence.length
    return piece.request.tokens[start : start + piece.count]


def _unfinished(request: Request) -> bool:
    """Whether the step was a chunk in the midst of its prompt."""
    return request.sequence.length < len(request.tokens)


def _scale(request: Request) -> float | None:
    """What the request's logits are to be scaled by to find its likeliest tokens, if they help."""
    return None if _unfinished(request) else request.sampler.scale


def _run_last_again(request: Request) -> None:
    if request.finish_reason is None and request.sequence.length == len(request.tokens):
        request.sequence.length -= 1
