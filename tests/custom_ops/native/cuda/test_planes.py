"""Weights in planes on the CUDA kernels: the bits that their blocks give."""

from __future__ import annotations

import planes_cases as cases
import pytest
from cuda_node import run
from hypothesis import given, settings
from hypothesis import strategies as st
from planes_cases import each_layout, each_parts

from ferrum.custom_ops.quants import QUANTS, Quant


@each_layout
@pytest.mark.parametrize("tokens", [1, 2, 7, 40, 70, 150])
def test_products_have_the_bits_of_blocks(planes: Quant, tokens: int) -> None:
    """By ones, twos and fours; in tiles of 16 to 128, split along k and not."""
    cases.assert_same_matmul(run, planes, tokens, 176, 3)


@each_layout
@pytest.mark.parametrize(("tokens", "rows"), [(12, 16), (20, 528), (40, 528), (100, 528)])
def test_products_of_few_and_of_many_rows_have_the_bits_of_blocks(
    planes: Quant, tokens: int, rows: int
) -> None:
    """Tiles of 8 tokens and, with rows enough for the emulated GPU, of 32 to 128 tokens."""
    cases.assert_same_matmul(run, planes, tokens, rows, 2)


@settings(max_examples=30, deadline=None)
@given(
    planes=st.sampled_from(QUANTS.planes),
    tokens=st.integers(0, 150),
    rows=st.integers(1, 20),
    blocks_in_row=st.integers(1, 9),
)
def test_odd_shapes_have_the_bits_of_blocks(
    planes: Quant, tokens: int, rows: int, blocks_in_row: int
) -> None:
    cases.assert_same_matmul(run, planes, tokens, 16 * rows, blocks_in_row)


@each_layout
@pytest.mark.parametrize("v_alone", [True, False])
@pytest.mark.parametrize("tokens", [1, 12, 40])
def test_qkv_has_the_bits_of_blocks(planes: Quant, tokens: int, v_alone: bool) -> None:
    cases.assert_same_qkv(run, planes, tokens, v_alone)


@each_layout
@each_parts
@pytest.mark.parametrize("way", ["few", "grouped"])
def test_experts_have_the_bits_of_blocks(planes: Quant, way: str, parts: tuple[str, ...]) -> None:
    for tokens in (1, 5, 70):
        cases.assert_same_experts(run, planes, tokens, parts, moe_path=way)


@each_layout
@pytest.mark.parametrize("size", ["8", "16", "32", "64"])
def test_experts_in_tiles_of_any_size_have_the_bits_of_blocks(planes: Quant, size: str) -> None:
    cases.assert_same_experts(run, planes, 70, cases.ALL, moe_path="grouped", moe_block_size=size)


@each_layout
def test_gate_and_up_apart_have_the_bits_of_blocks(planes: Quant) -> None:
    cases.assert_same_experts(run, planes, 40, cases.ALL, moe_path="grouped", moe_gate_up="unfused")


def test_what_does_not_fit_is_refused() -> None:
    cases.assert_misfits_are_refused(run)
