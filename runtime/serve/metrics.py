"""What the server counts, in Prometheus' text format; every name has its unit.

What other objects know anyway (blocks, queue, preemptions) is read when somebody asks, so that a
step pays for two histograms and a few additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

from ferrum.runtime.engine import StepReport
from ferrum.runtime.llm import LLM
from ferrum.runtime.serve.errors import Stopped
from ferrum.runtime.serve.ticket import Ticket

_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_WHOLE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STEP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Requests(Protocol):
    """Who knows how many requests there are."""

    @property
    def queued(self) -> int: ...
    @property
    def running(self) -> int: ...


class Metrics:
    """The counters of one model, in a registry of their own."""

    def __init__(self, llm: LLM) -> None:
        self.registry = CollectorRegistry()
        self._model = _Model(llm)
        self.registry.register(self._model)
        self._outcomes = Counter(
            "ferrum_requests",
            "Requests that ended, by how: stop, length, cancelled, timeout, error; a choice is one",
            ["outcome"],
            registry=self.registry,
        )
        self._responses = Counter(
            "ferrum_http_responses", "HTTP responses by status", ["status"], registry=self.registry
        )
        self._first = self._histogram(
            "ferrum_time_to_first_token_seconds", "From a request's arrival to its first token",
            _FIRST)  # fmt: skip
        self._token = self._histogram(
            "ferrum_time_per_output_token_seconds",
            "A request's mean time per token after the first", _TOKEN)  # fmt: skip
        self._whole = self._histogram(
            "ferrum_request_seconds", "From a request's arrival to its end", _WHOLE)  # fmt: skip
        self._step = self._histogram("ferrum_step_seconds", "Time of a step", _STEP)
        self._sequences = self._histogram(
            "ferrum_step_sequences", "Sequences that a step advances", _SEQUENCES)  # fmt: skip

    def watch(self, requests: Requests) -> None:
        """Whom to ask for the queue's length from now on."""
        self._model.requests = requests

    def step(self, report: StepReport) -> None:
        """A step has run."""
        self._step.observe(report.seconds)
        self._sequences.observe(report.sequences)
        self._model.prefilled += report.prefill_tokens

    def tokens(self, count: int) -> None:
        """Tokens have been generated."""
        self._model.generated += count

    def ended(self, ticket: Ticket) -> None:
        """A request is at its end."""
        request = ticket.request
        outcome: str = request.finish_reason or "error"
        if ticket.timed_out:
            outcome = "timeout"
        elif isinstance(ticket.error, Stopped):
            outcome = "cancelled"
        self._outcomes.labels(outcome).inc()
        if request.first_token is None:
            return
        self._model.prompts += request.prompt_tokens
        self._first.observe(ticket.waited + request.first_token - request.arrived)
        if request.finished is not None and request.finish_reason in ("stop", "length"):
            self._whole.observe(ticket.waited + request.finished - request.arrived)
            later = len(request.tokens) - request.prompt_tokens - 1
            if later > 0:
                self._token.observe((request.finished - request.first_token) / later)

    def response(self, status: int) -> None:
        """An HTTP response has gone out."""
        self._responses.labels(str(status)).inc()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """All of it, and its content type, in the format that an Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def text(self) -> bytes:
        """All of it in the plain text format."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)


class _Model(Collector):
    """What is read off the model when somebody asks."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.requests: Requests | None = None
        self.prompts = self.prefilled = self.generated = 0

    def collect(self) -> Iterator[Metric]:
        for name, text, number in self._gauges():
            yield GaugeMetricFamily(f"ferrum_{name}", text, value=number)
        for name, text, number in self._counters():
            yield CounterMetricFamily(f"ferrum_{name}", text, value=number)

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        requests, pool = self.requests, self._llm.session.pool
        yield "requests_waiting", "Requests that wait", requests.queued if requests else 0
        yield "requests_running", "Requests that run", requests.running if requests else 0
        yield "blocks", "Blocks of the KV caches", pool.blocks
        yield "blocks_used", "Blocks that running requests have", pool.used
        yield "blocks_free", "Blocks that can be taken: unused or kept for reuse", pool.free
        yield "blocks_cached", "Of the free blocks, those kept for prompts that begin alike", \
            pool.cached  # fmt: skip

    def _counters(self) -> Iterator[tuple[str, str, float]]:
        engine, clock = self._llm.engine, self._llm.clock
        yield "prompt_tokens", "Tokens of the prompts that were answered", self.prompts
        yield "prefill_tokens", "Tokens of prompts that steps have computed", self.prefilled
        yield "generated_tokens", "Tokens generated", self.generated
        yield "prefix_query_tokens", "Prompt tokens looked up for reuse", engine.prefix.queries
        yield "prefix_hit_tokens", "Of those looked up, tokens found", engine.prefix.hits
        yield "draft_tokens", "Tokens guessed and verified", engine.speculation.drafted
        yield "accepted_draft_tokens", "Of those guessed, tokens that were right", \
            engine.speculation.accepted  # fmt: skip
        yield "preemptions", "Requests whose blocks were taken for older ones", \
            engine.scheduler.preemptions  # fmt: skip
        yield "graph_seconds", "Time in the graph, of all steps' time", clock.seconds("graph")
        yield "sample_seconds", "Time of sampling, of all steps' time", clock.seconds("sample")
