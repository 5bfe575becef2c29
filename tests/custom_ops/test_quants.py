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


def test_layouts_in_planes_are_types_of_their_own_that_no_file_has() -> None:
    assert {planes.name for planes in QUANTS.planes} == {
        "Q8_0_planes", "Q6_K_planes", "MXFP4_planes",
    }  # fmt: skip
    for planes in QUANTS.planes:
        blocks = planes.blocks
        assert blocks is not None
        assert (planes.block, planes.bytes) == (blocks.block, blocks.bytes)
        assert sum(planes.fields) == planes.bytes
        assert planes.bytes % 16, "vectors load such blocks as they lie"
        assert planes.id not in QUANTS
        assert planes not in list(QUANTS)
        assert QUANTS.by_id(planes.id) is QUANTS.by_name(planes.name) is planes


def test_only_matrices_whose_planes_are_whole_vectors_lie_in_planes() -> None:
    q6_k, mxfp4, q4_k = (QUANTS.by_name(name) for name in ("Q6_K", "MXFP4", "Q4_K"))
    assert q6_k.in_planes(2048, 768)
    assert q6_k.in_planes(8, 256)
    assert not q6_k.in_planes(12, 256)
    assert mxfp4.in_planes(16, 32)
    assert not mxfp4.in_planes(8, 32)
    assert not q4_k.in_planes(2048, 768)
