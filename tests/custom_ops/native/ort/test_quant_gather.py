"""QuantGather on the library: rows equal gguf's decoding, and no id reads outside the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_node import run
from oracle import quantized

from ferrum.custom_ops.quants import QUANTS

Q8_0, Q4_K = 8, 12


@pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
def test_rows_of_every_type_equal_the_gguf_package(quant: Any) -> None:
    blocks, values = quantized(quant.id, (11, 512))
    ids = np.array([10, 0, 3, 3, 7], np.int64)
    found = run("QuantGather", {"ids": ids, "weight": blocks}, {"type": quant.id})[0]
    np.testing.assert_allclose(found, values[ids], rtol=2.0**-22, atol=0)


def test_no_ids_give_no_rows() -> None:
    blocks, _ = quantized(Q8_0, (3, 64))
    found = run("QuantGather", {"ids": np.empty(0, np.int64), "weight": blocks}, {"type": Q8_0})
    assert found[0].shape == (0, 64)


@pytest.mark.parametrize("bad", [-1, 5, 2**31, 2**62, -(2**63)])
def test_an_id_outside_the_vocabulary_is_refused(bad: int) -> None:
    blocks, _ = quantized(Q4_K, (5, 256))
    ids = np.array([0, 4, bad], np.int64)
    message = rf"\[QuantGather\] embed: input ids, got {bad} at 2, expected 0 to 4"
    with pytest.raises(Exception, match=message):
        run("QuantGather", {"ids": ids, "weight": blocks}, {"type": Q4_K}, name="embed")


def test_rows_that_are_no_whole_blocks_are_refused() -> None:
    weight = np.zeros((5, 145), np.uint8)
    with pytest.raises(Exception, match="rows of 145 bytes, expected a multiple of Q4_K's"):
        run("QuantGather", {"ids": np.zeros(1, np.int64), "weight": weight}, {"type": Q4_K})


def test_a_wrong_rank_is_refused() -> None:
    with pytest.raises(Exception, match="input ids, got rank 2, expected rank 1"):
        run(
            "QuantGather",
            {"ids": np.zeros((1, 1), np.int64), "weight": np.zeros((5, 144), np.uint8)},
            {"type": Q4_K},
        )
