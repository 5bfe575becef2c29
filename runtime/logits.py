"""What a step gave: logits, wherever they lie, and as much of them as choosing a token takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ferrum.runtime.likeliest import Likeliest

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LogitsRow:
    """One row: all of it where it is asked for, and its likeliest tokens where they are known."""

    all: Callable[[], Floats]  # float32[vocabulary]
    likeliest: Likeliest | None = None


class StepLogits(Protocol):
    """A row for each of a step's pieces, good until the next step."""

    def __len__(self) -> int: ...

    def host(self) -> Floats:
        """float32[rows, vocabulary], in a buffer that the next step overwrites."""

    def rows(self, scales: Sequence[float | None]) -> list[LogitsRow]:
        """The rows, to choose tokens from.

        `scales`: what a row's logits are multiplied by before the draw, one over the temperature;
        None where its likeliest tokens are of no use.
        """


class HostLogits:
    """Logits in an array of the host."""

    def __init__(self, array: Floats) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def host(self) -> Floats:
        """The array itself."""
        return self._array

    def rows(self, scales: Sequence[float | None]) -> list[LogitsRow]:
        """Its rows; nobody looks for the likeliest before they are needed."""
        return [host_row(row) for row in self._array]


def host_row(array: Floats) -> LogitsRow:
    """A row that is float32[vocabulary] on the host."""
    return LogitsRow(lambda: array)
