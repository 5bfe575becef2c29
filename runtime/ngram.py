"""Drafts from a text's own past: what came after its last tokens the last time they stood there.

Prompt lookup decoding (Saxena, 2023): code, quotations, tables and edits repeat themselves, and to
verify several tokens in one step reads the weights that all of them need only once.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST, _SHORTEST = 4, 2  # tokens that have to agree; a longer agreement is trusted first


class NgramIndex:
    """Where each run of a few tokens last ended in a growing text: constant time per token."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0  # tokens before this one are known as ends

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens that may come next; none where the end of the text is new.

        `tokens` is the text of the calls before, and more.
        """
        if most < 1:
            return []
        self._index(tokens)
        for size in range(_LONGEST, _SHORTEST - 1, -1):
            end = self._ends.get(tuple(tokens[-size:])) if len(tokens) >= size else None
            if end is not None:
                return _continued(tokens, end, most)
        return []

    def _index(self, tokens: Sequence[int]) -> None:
        # Runs that end at the very last token are what is looked for, so they come in later.
        for end in range(max(self._indexed, 1), len(tokens)):
            for size in range(_SHORTEST, min(_LONGEST, end) + 1):
                self._ends[tuple(tokens[end - size : end])] = end
        self._indexed = max(self._indexed, len(tokens))


def _continued(tokens: Sequence[int], start: int, most: int) -> list[int]:
    """The tokens from `start` on; where they run into the text's end, it goes on as it began."""
    period = len(tokens) - start
    return [tokens[start + i % period] for i in range(most)]
