"""The largest values, against sorting everything."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ferrum.runtime.largest import largest


@given(
    values=st.lists(st.integers(-4, 4), min_size=1, max_size=400),
    repeats=st.sampled_from([1, 20]),
    count=st.integers(1, 60),
)
def test_largest_is_a_stable_sort_cut_short(values: list[int], repeats: int, count: int) -> None:
    array = np.tile(np.array(values, np.float32), repeats)
    array[array == 0.0] *= np.float32(-1.0) ** np.arange((array == 0.0).sum())  # both zeros
    array[array == 4.0] = np.inf
    wanted = np.argsort(-array, kind="stable")[:count]
    assert largest(array, count).tolist() == wanted.tolist()
