"""Many requests through one session: schedule, run, sample, commit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Items
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from ferrum.runtime.binding import GraphError
from ferrum.runtime.block_check import check_blocks
from ferrum.runtime.logits import LogitsRow
from ferrum.runtime.prefix_cache import PrefixCache
from ferrum.runtime.request import Request
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.scheduler import Piece, Scheduler
from ferrum.runtime.session import Part, Session
from ferrum.runtime.session_errors import CacheFull
from ferrum.runtime.speculation import Speculation
from ferrum.runtime.tokenizer import Tokenizer

_MASK_THREADS = 4  # few are needed: a mask takes a fraction of a step


@dataclass(frozen=True)
class StepReport:
    """What a step was made of."""

    decodes: int  # sequences that got their next token from their last
    prefill_tokens: int  # of prompts, or of what is computed anew
    sequences: int
    seconds: float


class Engine:
    """Requests that are waiting or running; each `step` advances as many as it can."""

    def __init__(self, session: Session, tokenizer: Tokenizer) -> None:
        self.session, self._tokenizer, self._clock = session, tokenizer, session.clock
        self._abandoned: deque[Request] = deque()
        self.prefix: PrefixCache[Request] = PrefixCache(
            session.pool, reuse=session.settings.prefix_reuse
        )
        self.scheduler: Scheduler[Request] = Scheduler(
            session.pool, session.max_sequences, session.step_tokens, self.prefix
        )
        self.batch: list[Request] = []  # those of the last step, even if it has failed
        self.last_step: StepReport | None = None
        self.speculation = Speculation(session.settings.speculate)
        self._mask_workers = ThreadPoolExecutor(_MASK_THREADS, "ferrum-mask")  # starts none yet

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or running."""
        return not self.scheduler.running and not self.scheduler.waiting

    def add(self, prompt: Items[int], params: SamplingParams, priority: int = 0) -> Request:
        """A new request at the end of those of its priority, of which lower ones come first.

        SessionError where it could never run.
        """
        request = self.request(prompt, params, priority)
        self.enqueue(request)
        return request

    def request(self, prompt: Items[int], params: SamplingParams, priority: int = 0) -> Request:
        """A request that is not in the line yet; may be called while another thread runs a step."""
        # One more than the prompt: a prompt that fills the context leaves no room for an answer.
        self.session.check(prompt, beyond=1)
        return Request.of(
            self.session.sequence(),
            prompt,
            params,
            self._tokenizer,
            vocabulary=self.session.vocabulary,
            longest=self.session.longest(),
            priority=priority,
        )

    def enqueue(self, request: Request) -> None:
        """Put a request into the line."""
        self.scheduler.add(request)

    def cancel(self, request: Request) -> None:
        """End a request where it is; its blocks are free at once."""
        if request.finish_reason is None:
            self.scheduler.remove(request)
            request.cancel()

    def fail(self, request: Request, error: Exception) -> None:
        """As `cancel`, with an error for whoever waits for it."""
        if request.finish_reason is None:
            self.scheduler.remove(request)
            request.fail(error)

    def cancel_all(self) -> None:
        """End every request where it is."""
        for request in [*self.scheduler.running, *self.scheduler.waiting]:
            self.cancel(request)

    def reset(self) -> None:
        """End every request and forget what the caches hold for later ones."""
        self.cancel_all()
        self.prefix.clear()

    def close(self) -> None:
        """End every request; the engine cannot be used any more."""
        self.cancel_all()
        self._mask_workers.shutdown(wait=False, cancel_futures=True)

    def abandon(self, request: Request) -> None:
        """Cancel a request before the next step: safe at any moment and from any thread."""
        self._abandoned.append(request)

    def drop_abandoned(self) -> None:
        """Cancel the requests that nobody waits for any more."""
        while self._abandoned:
            self.cancel(self._abandoned.popleft())

    def step(self) -> None:
        """Run one step, if there is anyone to run.

        Requests that finish in it, or whose sampling fails, leave the line. CacheFull where
        sequences that the session knows by id leave no block to run anyone with.
        """
        self.drop_abandoned()
        if self.idle:
            return
        start = time.perf_counter()
        with self._clock.measure("step"):
            batch = self._with_drafts(self.scheduler.next_batch())
            self.batch = [piece.request for piece in batch]
            if not batch:  # a request fits into an empty pool, so it is not empty
                raise CacheFull(
                    f"[engine] {self.session.pool.free:,} of {self.session.pool.blocks:,} blocks "
                    "are free, too few for any request -> release the session's own sequences"
                )
            decodes = sum(map(_is_decode, batch))
            self._run(batch, decoding=decodes == len(batch))
        self.last_step = StepReport(
            decodes=decodes,
            prefill_tokens=sum(piece.count for piece in batch) - decodes,
            sequences=len(batch),
            seconds=time.perf_counter() - start,
        )
        if self.session.settings.check_blocks:
            check_blocks(self.session.pool, self.scheduler.running, self.session.open_sequences())

    def _run(self, batch: list[Piece[Request]], *, decoding: bool) -> None:
        self._clock.steps += 1
        for piece in batch:
            if piece.request.mask is not None and _ends_with(piece):
                piece.request.mask.begin(self._mask_workers, piece.request.generated)
        start = time.perf_counter()
        try:
            logits = self.session.run([_part(piece) for piece in batch])
            seconds = time.perf_counter() - start
            for piece in batch:
                piece.request.sequence.length -= len(piece.drafts)
            with self._clock.measure("sample"):
                rows = iter(logits.rows([scale for piece in batch for scale in _scales(piece)]))
                for piece in batch:
                    self._commit(piece.request, piece.drafts, rows)
        except BaseException:
            for piece in batch:
                self._recover(piece.request)
            raise
        if decoding:
            self.speculation.cost.observe(len(batch), sum(len(p.drafts) for p in batch), seconds)

    def _with_drafts(self, batch: list[Piece[Request]]) -> list[Piece[Request]]:
        """The step with guesses at what comes after the tokens of those that decode."""
        if not self.speculation.on:
            return batch
        # A mask is for one token at a time.
        drafting = [p.request for p in batch if _is_decode(p) and p.request.mask is None]
        promised = sum(p.request.sequence.blocks_needed(p.count) for p in batch)
        drafts = self.speculation.drafts(
            drafting,
            sequences=len(batch),
            tokens=self.session.step_tokens - sum(piece.count for piece in batch),
            blocks=self.session.pool.free - promised,
        )
        found = {id(request): tuple(d) for request, d in zip(drafting, drafts, strict=True)}
        return [Piece(p.request, p.count, found.get(id(p.request), ())) for p in batch]

    def _commit(self, request: Request, drafts: Items[int], rows: Iterator[LogitsRow]) -> None:
        """Take the next tokens from a request's rows of logits, where its prompt is at its end.

        Only now are the blocks known to others that the step has filled: none of their tokens will
        run again.
        """
        own = list(islice(rows, 1 + len(drafts)))
        if not _unfinished(request):
            right = self._verify(request, drafts, own)
            self.speculation.verified(request, len(drafts), right)
        self.prefix.publish(request)
        if request.finish_reason is not None:
            self.scheduler.remove(request)
        elif drafts:
            request.sequence.trim()

    def _verify(self, request: Request, drafts: Items[int], rows: list[LogitsRow]) -> int:
        """Take a token from the first row, and as long as it is the draft, from the next one.

        Returns how many drafts came; the caches hold what follows from them already.
        """
        right = 0
        while self._advance(request, rows[right]):
            if right == len(drafts) or request.tokens[-1] != drafts[right]:
                break
            request.sequence.length += 1
            right += 1
        return right

    def _advance(self, request: Request, row: LogitsRow) -> bool:
        """Take a request's next token; whether there may be more."""
        try:
            request.advance(row)
        except GraphError:  # logits that cannot be read are not the request's fault
            raise
        except Exception as error:  # a mask is the caller's code: it fails for its request alone
            request.fail(error)
        return request.finish_reason is None

    def _recover(self, request: Request) -> None:
        """Put a request in order that a step has left half-way.

        Between the run and the sampling its tokens' logits are lost, so the last one runs once
        more, into the slot that it has.
        """
        if request.finish_reason is None:
            request.sequence.cut(min(request.sequence.length, len(request.tokens) - 1))
        elif request in self.scheduler.running:
            self.scheduler.remove(request)


def _is_decode(piece: Piece[Request]) -> bool:
    return piece.count == 1 and len(piece.request.tokens) > piece.request.prompt_tokens


def _part(piece: Piece[Request]) -> Part:
    """The piece's tokens, and drafts as rows of their own: each row gives logits."""
    request, start = piece.request, piece.request.sequence.length
    tokens = request.tokens[start : start + piece.count]
    return Part(request.sequence, [*tokens, *piece.drafts], every=bool(piece.drafts))


def _ends_with(piece: Piece[Request]) -> bool:
    """Whether the step runs all the tokens that there are, so that the next is chosen after it."""
    return piece.request.sequence.length + piece.count == len(piece.request.tokens)


def _unfinished(request: Request) -> bool:
    """Whether the step was a chunk in the midst of its prompt."""
    return request.sequence.length < len(request.tokens)


def _scales(piece: Piece[Request]) -> list[float | None]:
    """What the rows are to be scaled by to find their likeliest tokens, where those help."""
    scale = None if _unfinished(piece.request) else piece.request.sampler.scale
    return [scale] * (1 + len(piece.drafts))
