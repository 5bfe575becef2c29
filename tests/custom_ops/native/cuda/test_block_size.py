"""Rows per tile of the experts' products on CUDA."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from cuda_node import EMULATED, ON_GPU
from hypothesis import given
from hypothesis import strategies as st

from ferrum.custom_ops.library import library_path

SIZES = (8, 16, 32, 48, 64)
MOST_PADDING = 1.30
LIBRARY = library_path() if ON_GPU else EMULATED


def block_size(
    counts: list[int] | None = None,
    pairs: int = 0,
    forced: int = 0,
    small: int = 16,
    large: int = 64,
    large_pairs: int = 1024,
) -> int:
    """With the experts' counts, or, without, as where only the device knows them."""
    choose = ctypes.CDLL(str(LIBRARY)).ferrum_cuda_block_size
    size = ctypes.c_int(-1)
    held = None if counts is None else np.array(counts, np.int32)
    status = choose(
        None if held is None else ctypes.c_void_p(held.ctypes.data),
        ctypes.c_int64(len(counts or ())),
        ctypes.c_int64(pairs),
        forced,
        small,
        large,
        ctypes.c_int64(large_pairs),
        ctypes.byref(size),
    )
    if status != 0:
        raise ValueError(status)
    return size.value


def padding(counts: list[int], size: int) -> float:
    return sum(-(-count // size) * size for count in counts) / max(sum(counts), 1)


@given(st.lists(st.integers(0, 300), max_size=40))
def test_it_is_the_largest_that_pads_little(counts: list[int]) -> None:
    fitting = [size for size in (64, 32) if padding(counts, size) <= MOST_PADDING]
    assert block_size(counts) == (fitting[0] if fitting else 16)


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        ([64, 128, 0], 64),
        ([50], 64),  # 1.28
        ([49], 16),  # 1.306 both ways
        ([32, 32], 32),
        ([25], 32),  # 1.28
        ([1] * 8, 16),
        ([], 64),
    ],
)
def test_examples(counts: list[int], size: int) -> None:
    assert block_size(counts) == size


@pytest.mark.parametrize(("pairs", "size"), [(0, 16), (1, 16), (1023, 16), (1024, 64), (10**6, 64)])
def test_where_counts_stay_on_the_device_it_depends_on_how_many_pairs_there_are(
    pairs: int, size: int
) -> None:
    assert block_size(pairs=pairs) == size


@pytest.mark.parametrize("set_size", SIZES)
def test_the_sizes_of_few_and_many_pairs_and_where_they_part_may_be_set(set_size: int) -> None:
    assert block_size(pairs=200, large=set_size, large_pairs=200) == set_size
    assert block_size(pairs=199, large=set_size, large_pairs=200) == 16
    assert block_size(pairs=199, small=set_size, large_pairs=200) == set_size
    assert block_size(pairs=200, small=set_size, large_pairs=200) == 64


@pytest.mark.parametrize("forced", SIZES)
def test_a_forced_size_wins(forced: int) -> None:
    assert block_size([1, 2, 3], forced=forced) == forced
    assert block_size(pairs=5000, forced=forced) == forced


@pytest.mark.parametrize("wrong", [-16, 1, 24, 63, 128])
def test_no_other_size_can_be_asked_for(wrong: int) -> None:
    with pytest.raises(ValueError, match="4"):
        block_size(pairs=1, forced=wrong)
    with pytest.raises(ValueError, match="4"):
        block_size([1], small=wrong)
    with pytest.raises(ValueError, match="4"):
        block_size([1], large=wrong)


def test_negative_counts_are_refused() -> None:
    for arguments in ({"counts": [3, -1]}, {"pairs": -1}, {"pairs": 1, "large_pairs": -1}):
        with pytest.raises(ValueError, match="4"):
            block_size(**arguments)
