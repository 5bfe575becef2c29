"""Decode steps come in few shapes, and what is made up harms nobody."""

from __future__ import annotations

import numpy as np
import pytest

from ferrum.runtime.batcher import Batcher, Row
from ferrum.runtime.decode_buckets import DecodeBuckets


def row(token: int, past: int, blocks: int) -> Row:
    return Row([token], past, np.arange(blocks, dtype=np.int32))


@pytest.mark.parametrize(
    ("blocks", "shape"),
    [([1], (1, 4)), ([4, 1], (2, 4)), ([5, 1, 1], (4, 8)), ([9] * 5, (8, 16)), ([40], (1, 50)),
     ([1] * 16, (16, 4))],
)  # fmt: skip
def test_shapes_are_powers_of_two(blocks: list[int], shape: tuple[int, int]) -> None:
    rows, columns = DecodeBuckets(spare_block=99, most_columns=50).pad(
        [row(1, 0, count) for count in blocks], max(blocks)
    )
    assert (len(rows), columns) == shape


def test_no_table_is_wider_than_the_longest_sequence() -> None:
    assert DecodeBuckets(spare_block=9, most_columns=1).pad([row(1, 0, 1)], 1)[1] == 1


def test_rows_made_up_have_a_block_of_their_own() -> None:
    batcher = Batcher(10, DecodeBuckets(spare_block=99, most_columns=50))
    step = batcher.arrays([row(7, 5, 2), row(8, 0, 1), row(9, 40, 3)])
    assert (step.rows, step.padded) == (3, True)
    assert step.input_ids.tolist() == [7, 8, 9, 0]
    assert step.cumulative_sequence_lengths.tolist() == [0, 1, 2, 3, 4]
    assert step.past_sequence_lengths.tolist() == [5, 0, 40, 0]
    assert step.block_table[:, :3].tolist() == [[0, 1, -1], [0, -1, -1], [0, 1, 2], [99, -1, -1]]
    assert step.block_table.shape == (4, 4)
    assert step.logits.shape == (4, 10)


def test_prompts_and_steps_that_come_once_are_left_as_they_are() -> None:
    batcher = Batcher(10, DecodeBuckets(spare_block=99, most_columns=50))
    prompt = batcher.arrays([row(7, 5, 2), Row([1, 2], 0, np.array([3], np.int32))])
    assert (prompt.rows, prompt.padded, prompt.block_table.shape) == (2, False, (2, 2))
    once = batcher.arrays([row(7, 5, 2), row(7, 5, 2), row(7, 5, 2)], once=True)
    assert (once.rows, once.padded, once.block_table.shape) == (3, False, (3, 2))
