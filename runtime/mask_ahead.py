"""A request's mask, begun before the graph runs and collected after it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future

import numpy as np
import numpy.typing as npt

from ferrum.runtime.sampler import Mask

Allowed = npt.NDArray[np.bool_]


class MaskAhead:
    """A mask that is called once for each token, in another thread where it is begun in time.

    Calling this gives what the mask gives for the tokens generated so far, or raises what it
    raises. What was begun for a step that failed is kept: no token was added since.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._begun: Future[Allowed | None] | None = None

    def begin(self, workers: Executor, generated: Sequence[int]) -> None:
        """Have one of the workers compute it for these tokens."""
        if self._begun is None:
            self._begun = workers.submit(self._mask, generated)

    def __call__(self, generated: Sequence[int]) -> Allowed | None:
        if self._begun is None:
            return self._mask(generated)
        begun, self._begun = self._begun, None
        return begun.result()
