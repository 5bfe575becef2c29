"""Figures of a server as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ferrum.runtime.bench.report import Spread
from ferrum.runtime.bench.run import QUIET
from ferrum.runtime.bench.serving.clients import Served, ratio
from ferrum.runtime.bench.serving.first_text import Beside, Turns
from ferrum.runtime.bench.serving.load import Round
from ferrum.runtime.bench.serving.overhead import Overhead
from ferrum.runtime.bench.serving.soak import Soak
from ferrum.runtime.bench.serving.speculation import Speculated


def heading(machine: Mapping[str, Any]) -> str:
    """Where and when."""
    return (
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['isa']}, "
        f"onnxruntime {machine['onnxruntime']}, ferrum at {machine['commit']}"
    )


def clients(served: Sequence[Served]) -> list[str]:
    """Speeds side by side, and ferrum's ratio to the better of the others."""
    lines = []
    for one in served:
        together = [r.together for r in one.rounds if r.together is not None]
        lines.append(
            f"{one.name:<22} {_spread(one.tokens_per_second, '.0f')} tokens/s; all at work "
            f"{_of(together, '.0f') if together else 'never'}; first text "
            f"{_of([median(r.first_text) for r in one.rounds], '.2f')} s"
        )
    if (times := ratio(served)) is not None:
        lines.append(f"ferrum, times the better of the others: {_spread(times, '.2f')}")
    return lines + _noise([one for side in served for one in side.rounds])


def overhead(rounds: Sequence[Overhead]) -> list[str]:
    """The step alone and served, and what comes on top."""
    lines = [
        f"the model's step alone {_of([1e3 * r.alone for r in rounds], '.2f')} ms",
        f"a step as served       {_of([1e3 * r.served for r in rounds], '.2f')} ms",
        f"on top {_of([100 * r.share for r in rounds], '.1f')} %",
    ]
    told = [100 * r.in_graph for r in rounds if r.in_graph is not None]
    if told:
        lines.append(f"of the engine's steps the graph takes {_of(told, '.1f')} %")
    return lines + _noise([one.round for one in rounds])


def beside(rounds: Sequence[Beside]) -> list[str]:
    """The short prompt's wait, and the chunk that it may cost."""
    alone, chunk = median(r.alone for r in rounds), median(r.mean_chunk for r in rounds)
    waits = [wait for r in rounds for wait in r.short]
    return [
        f"short prompt alone        {_of([r.alone for r in rounds], '.3f')} s",
        f"short beside the long one {_of(waits, '.3f')} s",
        f"one chunk alone           {_of([r.chunk for r in rounds], '.3f')} s",
        f"a chunk of the long one   {_of([r.mean_chunk for r in rounds], '.3f')} s on the mean",
        f"long prompt alone         {_of([r.long_alone for r in rounds], '.3f')} s",
        f"long with the short       {_of([w for r in rounds for w in r.long], '.3f')} s",
        f"longest extra wait: {max(waits) - alone:.3f} s, "
        f"{(max(waits) - alone) / chunk:.2f} of the long one's chunks, "
        f"median {(median(waits) - alone) / chunk:.2f}",
    ]


def turns(rounds: Sequence[Turns]) -> list[str]:
    """The second turn with and without reuse."""
    one = rounds[0]
    return [
        f"history {one.history:,} tokens, {one.question} more; {one.cached:,} reused",
        f"first turn             {_of([r.first for r in rounds], '.3f')} s",
        f"second, computed anew  {_of([r.anew for r in rounds], '.3f')} s",
        f"second, reused         {_of([r.reused for r in rounds], '.3f')} s",
        f"times as fast: {_of([r.ratio for r in rounds], '.1f')}",
    ]


def speculation(found: Sequence[Speculated]) -> list[str]:
    """Speeds both ways, and the drafts."""
    return [
        f"{one.text}, {one.sequences} at a time: {_of(one.plain, '.0f')} tokens/s, with drafts "
        f"{_of(one.drafting, '.0f')}, times {_spread(one.ratio, '.2f')}; {one.drafted:,} drafted, "
        f"{one.accepted / max(one.drafted, 1):.0%} right, one costs {one.cost:.2f} of a token"
        for one in found
    ]


def soak(found: Soak) -> list[str]:
    """Outcomes, blocks and memory."""
    sizes = [memory.anonymous + memory.file for _, memory in found.memory]
    whole = sum(found.outcomes.values())
    lines = [
        f"{found.seconds / 60:.1f} minutes of {found.clients} clients, {whole:,} requests, "
        f"{found.tokens:,} tokens in answers that came whole",
        *(f"  {name}: {n:,} ({n / whole:.1%})" for name, n in sorted(found.outcomes.items())),
        f"errors that nobody provoked: {found.errors}",
        f"all blocks back: {'yes' if found.all_blocks_back else 'NO'}",
        f"resident memory {sizes[0] / 1e6:.1f} MB at the start, {sizes[-1] / 1e6:.1f} at the end; "
        f"growth in the second half {found.growth:.2%}",
        f"preemptions: {found.end.get('ferrum_preemptions_total', 0):,.0f}",
        f"status of the server's process: {found.status}",
    ]
    return lines + [f"unexpected: {one}" for one in found.unexpected]


def _noise(rounds: Sequence[Round]) -> list[str]:
    lines = [f"the clients took {100 * median(r.client_cpu for r in rounds):.1f} % of a core"]
    disturbed = [r.foreign_cpu for r in rounds if r.foreign_cpu >= QUIET]
    if disturbed:
        lines.append(
            f"{len(disturbed)} of {len(rounds)} rounds were disturbed: other programs took up to "
            f"{max(disturbed):.0%} of the CPU time -> a quiet machine, for figures that count"
        )
    return lines


def _of(values: Sequence[float], form: str) -> str:
    return _spread(Spread.of(values), form)


def _spread(spread: Spread, form: str) -> str:
    return f"{spread.median:{form}} ({spread.lowest:{form}} to {spread.highest:{form}})"
