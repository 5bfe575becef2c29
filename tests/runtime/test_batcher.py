"""Rows become the graph's arrays, in buffers that move only to grow."""

from __future__ import annotations

import numpy as np

from ferrum.runtime.batcher import Batcher, Row


def blocks(*ids: int) -> np.ndarray:
    return np.array(ids, np.int32)


def test_rows_are_laid_end_to_end() -> None:
    step = Batcher(10).arrays([Row([5, 6, 7], 4, blocks(2, 9)), Row([8], 0, blocks(3))])
    assert step.input_ids.tolist() == [5, 6, 7, 8]
    assert step.input_ids.dtype == np.int64
    assert step.cumulative_sequence_lengths.tolist() == [0, 3, 4]
    assert step.past_sequence_lengths.tolist() == [4, 0]
    assert step.block_table.tolist() == [[2, 9], [3, -1]]
    assert step.logits.shape == (2, 10)
    for array in (step.cumulative_sequence_lengths, step.past_sequence_lengths, step.block_table):
        assert array.dtype == np.int32


def test_a_smaller_step_leaves_nothing_of_a_larger_one() -> None:
    batcher = Batcher(10)
    batcher.arrays([Row([1] * 9, 0, blocks(*range(5))), Row([2], 7, blocks(8, 8, 8))])
    step = batcher.arrays([Row([3], 1, blocks(4)), Row([4, 5], 2, blocks(6, 7))])
    assert step.input_ids.tolist() == [3, 4, 5]
    assert step.cumulative_sequence_lengths.tolist() == [0, 1, 3]
    assert step.block_table.tolist() == [[4, -1], [6, 7]]


def test_buffers_stay_where_they_are_until_a_step_is_larger() -> None:
    batcher = Batcher(10)
    first = batcher.arrays([Row([1] * 5, 0, blocks(1))])
    within = batcher.arrays([Row([1] * 8, 0, blocks(1))])  # five grew to the next power of two
    assert within.input_ids.ctypes.data == first.input_ids.ctypes.data
    assert within.logits.ctypes.data == first.logits.ctypes.data
    beyond = batcher.arrays([Row([1] * 9, 0, blocks(1))])
    assert beyond.input_ids.size == 9
    again = batcher.arrays([Row([1] * 16, 0, blocks(1))])
    assert again.input_ids.ctypes.data == beyond.input_ids.ctypes.data
