"""The quant table against the gguf package."""

from __future__ import annotations

import gguf
import pytest
from gguf.quants import _type_traits

from ferrum.custom_ops.quants import QUANTS, Quant


@pytest.mark.parametrize("quant", QUANTS, ids=lambda q: q.name)
def test_block_and_byte_counts_are_ggmls(quant: Quant) -> None:
    kind = gguf.GGMLQuantizationType(quant.id)
    assert kind.name == quant.name
    assert gguf.GGML_QUANT_SIZES[kind] == (quant.block, quant.bytes)


def test_every_type_that_gguf_can_dequantize_is_in_the_table() -> None:
    decodable = {kind.value for kind, traits in _type_traits.items() if traits is not None}
    assert decodable | {0, 1} <= {quant.id for quant in QUANTS}


def test_a_ragged_row_is_refused_with_its_numbers() -> None:
    with pytest.raises(ValueError, match=r"2050 values is not a multiple of Q4_K's block of 256"):
        QUANTS.by_name("Q4_K").row_bytes(2050)


def test_unknown_names_and_ids_list_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"Q9_X.*Q4_K"):
        QUANTS.by_name("Q9_X")
    with pytest.raises(KeyError, match=r"99.*12 \(Q4_K\)"):
        QUANTS.by_id(99)
