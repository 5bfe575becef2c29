"""Whether drafts by n-gram lookup pay: speed with and without them, and what came of the drafts."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ferrum.runtime.bench.report import Spread
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams

_DRAFTS = 4  # most per sequence and step
_TOKENS = 128
_PROMPT = 200  # tokens
_SEQUENCES = (1, 4)


@dataclass(frozen=True)
class Speculated:
    """Texts of one kind, so many at a time, greedily."""

    text: str
    sequences: int
    plain: tuple[float, ...]  # tokens per second without drafts, round by round
    drafting: tuple[float, ...]  # and with them
    drafted: int
    accepted: int
    cost: float  # time of a drafted token, of that of a token of a plain step

    @property
    def ratio(self) -> Spread:
        """How many times as fast drafts are."""
        return Spread.of([b / a for a, b in zip(self.plain, self.drafting, strict=True)])


def speculation(model: Path, rounds: int, say: Callable[[str], None]) -> list[Speculated]:
    """Both ways in turn, each kind of text at each number of sequences.

    Repetitive: one line again and again. Code: functions of Python's own textwrap module.
    """
    found = []
    for sequences in _SEQUENCES:
        for text in ("repetitive", "code"):
            say(f"speculation, {text}, {sequences} sequences")
            found.append(_both(model, text, sequences, rounds))
    return found


def _both(model: Path, text: str, sequences: int, rounds: int) -> Speculated:
    capacity = sequences * (_PROMPT + _TOKENS + 64)
    with (
        LLM(model, kv_capacity=capacity, speculate=0) as plain,
        LLM(model, kv_capacity=capacity, speculate=_DRAFTS) as drafting,
    ):
        prompts = _prompts(plain, text, sequences)
        speeds: dict[LLM, list[float]] = {plain: [], drafting: []}
        for number in range(rounds + 1):
            for llm in (plain, drafting) if number % 2 else (drafting, plain):
                speeds[llm].append(_speed(llm, prompts))
        engine = drafting.engine.speculation
        return Speculated(
            text, sequences, tuple(speeds[plain][1:]), tuple(speeds[drafting][1:]),
            engine.drafted, engine.accepted, engine.cost.relative,
        )  # fmt: skip


def _prompts(llm: LLM, text: str, count: int) -> list[list[int]]:
    if text == "repetitive":
        lines = [f"    total = total + values[{i}] * weights[{i}]\n" for i in range(count)]
        texts = [line * _PROMPT for line in lines]
    else:
        code = Path(textwrap.__file__).read_text(encoding="utf-8")
        texts = [code[i * len(code) // count :] for i in range(count)]
    return [llm.tokenizer.encode(text)[:_PROMPT] for text in texts]


def _speed(llm: LLM, prompts: list[list[int]]) -> float:
    """Tokens per second of all, from when each has its first."""
    params = SamplingParams(max_tokens=_TOKENS, ignore_eos=True)
    with llm.lock:
        requests = [llm.engine.add(prompt, params) for prompt in prompts]
        while any(request.first_token is None for request in requests):
            llm.engine.step()
        had, start = sum(len(request.generated) for request in requests), time.perf_counter()
        while any(request.finish_reason is None for request in requests):
            llm.engine.step()
        seconds = time.perf_counter() - start
    return (_TOKENS * len(prompts) - had) / seconds
