"""Whether a model's weights have room in memory, and how they get there where they have not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ferrum.custom_ops.library import PageIn
from ferrum.runtime.free_memory import free_memory


@dataclass(frozen=True)
class WeightPages:
    """Bytes of the weights, and how many of them there is room for."""

    size: int
    room: int

    @classmethod
    def of(cls, files: Sequence[Path]) -> WeightPages:
        """As things are now. Pages that are in memory already count as room."""
        return cls(sum(file.stat().st_size for file in files), free_memory())

    @property
    def fit(self) -> bool:
        """Whether all of them can be in memory at a time."""
        return self.size <= self.room

    def way(self, asked: Literal["auto"] | PageIn) -> PageIn:
        """How the library brings them in: as asked, or as suits them."""
        if asked != "auto":
            return asked
        return "faults" if self.fit else "experts"
