"""Made-up measurements for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.memory import Memory
from ferrum.runtime.bench.roofline import Limit
from ferrum.runtime.bench.run import Measured, Repetition
from ferrum.runtime.bench.work import Work

# A step of a decode without context reads 1000 + 8 * 100 bytes and half a caches' token.
WORK = Work(
    dense_bytes=1000, expert_bytes=100, embedding_bytes=0, experts=128, experts_used=8,
    int8_macs=50, float32_macs=5, head_macs=200, head_is_int8=True, attention_macs=2, kv_bytes=10,
)  # fmt: skip
LIMITS = (
    Limit("memory read", "anonymous", 2, "B/s", (4e4, 5e4, 6e4)),
    Limit("int8 products", "better", 2, "MAC/s", (9e5, 1e6, 2e6)),
    Limit("int8 products", "worse", 2, "MAC/s", (9e4, 1e5, 2e5)),
    Limit("int8 products", "better", 1, "MAC/s", (5e5,)),
)
PREFILL, DECODE = Case("prefill", 100, 1, 0, 2), Case("decode", 10, 1, 20, 2)


def measured(
    seconds: Sequence[float],
    beside: Sequence[tuple[float, float]] | None = None,
) -> Measured:
    """Repetitions of so many seconds, with the limit just before and after each."""
    rates = beside or [(5e4, 5e4)] * len(seconds)
    repetitions = [
        Repetition(number, taken, before, after, foreign_cpu=0.01)
        for number, (taken, (before, after)) in enumerate(zip(seconds, rates, strict=True))
    ]
    return Measured(repetitions, Memory(9000, 70000), cache_tokens=32)
