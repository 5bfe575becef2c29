"""How many drafted tokens a step verifies: those likely enough to be worth their time.

A further token in a step is no gift with a mixture of experts: it wakes experts of its own, whose
weights must be read. So two things are measured as the model runs: how often a sequence's drafts
are right, and what a drafted token costs beside a token of a plain step. A draft is verified while
its chance is above that cost. Timing decides how many tokens are verified, never which come out.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Protocol

from ferrum.runtime.ngram import NgramIndex
from ferrum.runtime.sequence import Sequence

_MEMORY = 0.8  # what a running mean keeps of itself at each new reading
_RETRY = 32  # steps after which what was measured is measured again


class DraftCost:
    """The time of a drafted token in units of the time that a plain step takes for one token."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}  # seconds of a step without drafts, by its sequences
        self._age: dict[int, int] = {}  # steps with drafts since it was timed
        self._relative: float | None = None

    @property
    def relative(self) -> float:
        """The running mean; drafts are free until a step with some was timed."""
        return 0.0 if self._relative is None else self._relative

    def observe(self, sequences: int, drafts: int, seconds: float) -> None:
        """Note a step that did nothing but decode."""
        plain = self._plain.get(sequences)
        if drafts == 0:
            self._plain[sequences] = seconds if plain is None else _mean(plain, seconds)
            self._age[sequences] = 0
        elif plain is not None:
            self._age[sequences] += 1
            found = max(0.0, seconds - plain) / drafts / (plain / sequences)
            self._relative = found if self._relative is None else _mean(self._relative, found)

    def knows(self, sequences: int) -> bool:
        """Whether a plain step of so many sequences was timed, and not long ago."""
        return sequences in self._plain and self._age[sequences] < _RETRY


@dataclass
class Drafter:
    """One sequence's drafts: where they come from and how often they were right."""

    index: NgramIndex = field(default_factory=NgramIndex)
    chance: float = 0.9  # that a draft is right when those before it were
    _waited: int = 0  # tokens since it last drafted

    def draft(self, tokens: list[int], most: int, cost: float) -> list[int]:
        """The tokens to verify after the last one: at most `most`, each worth `cost`."""
        count = self._worth(most, cost)
        if count == 0:
            self._waited += 1
            if self._waited < _RETRY:
                return []
            count = min(1, most)
        drafts = self.index.draft(tokens, count)
        if drafts:
            self._waited = 0
        return drafts

    def verified(self, drafts: int, right: int) -> None:
        """Note that the first `right` of `drafts` tokens were what came."""
        for was_right in [1.0] * right + [0.0] * (right < drafts):
            self.chance = _mean(self.chance, was_right)

    def _worth(self, most: int, cost: float) -> int:
        """How many drafts in a row are each likelier to be right than they cost."""
        count, chance = 0, self.chance
        while count < most and chance > cost:
            count += 1
            chance *= self.chance
        return count


class Draftable(Protocol):
    """What drafts are made for."""

    sequence: Sequence
    tokens: list[int]
    drafter: Drafter

    @property
    def wanted(self) -> int:
        """How many more tokens it may get."""


class Speculation:
    """The drafts of each step, and what has become of them."""

    def __init__(self, most: int) -> None:
        """`most` drafts for a sequence in a step; 0 makes none."""
        self._most = most
        self.cost = DraftCost()
        self.drafted = 0
        self.accepted = 0

    @property
    def on(self) -> bool:
        """Whether it makes any drafts."""
        return self._most > 0

    def drafts(
        self, decoding: Items[Draftable], sequences: int, tokens: int, blocks: int
    ) -> list[list[int]]:
        """The tokens to verify behind the last one of each that decodes.

        At most `tokens` in all, in `blocks` blocks beside those of the step itself, which has
        `sequences` sequences.
        """
        if not self.on or not self.cost.knows(sequences):
            return [[] for _ in decoding]
        found = []
        for request in decoding:
            sequence = request.sequence
            own = sequence.blocks_needed(1)
            most = min(self._most, tokens, sequence.room(blocks + own) - 1, request.wanted - 1)
            drafts = request.drafter.draft(request.tokens, most, self.cost.relative)
            tokens -= len(drafts)
            blocks -= sequence.blocks_needed(1 + len(drafts)) - own
            found.append(drafts)
        return found

    def verified(self, request: Draftable, drafts: int, right: int) -> None:
        """Note that the first `right` of a request's `drafts` were what came."""
        if drafts:
            request.drafter.verified(drafts, right)
            self.drafted += drafts
            self.accepted += right


def _mean(old: float, new: float) -> float:
    return _MEMORY * old + (1.0 - _MEMORY) * new
