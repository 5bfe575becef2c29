"""Weights in planes on the CPU kernels: the bits that their blocks give."""

from __future__ import annotations

import planes_cases as cases
import pytest
from native_node import run
from planes_cases import each_layout, each_parts

from ferrum.custom_ops.quants import Quant


@each_layout
@pytest.mark.parametrize("arithmetic", ["fast", "exact"])
@pytest.mark.parametrize(("rows", "blocks_in_row"), [(16, 1), (48, 3), (304, 2)])
def test_products_have_the_bits_of_blocks(
    planes: Quant, rows: int, blocks_in_row: int, arithmetic: str
) -> None:
    for tokens in (1, 5, 40):
        cases.assert_same_matmul(run, planes, tokens, rows, blocks_in_row, arithmetic=arithmetic)


@each_layout
@pytest.mark.parametrize("v_alone", [True, False])
def test_qkv_has_the_bits_of_blocks(planes: Quant, v_alone: bool) -> None:
    cases.assert_same_qkv(run, planes, 3, v_alone)


@each_layout
@each_parts
@pytest.mark.parametrize("way", ["one", "few", "grouped"])
def test_experts_have_the_bits_of_blocks(planes: Quant, way: str, parts: tuple[str, ...]) -> None:
    for tokens in (1, 30):
        cases.assert_same_experts(run, planes, tokens, parts, moe_path=way)


def test_what_does_not_fit_is_refused() -> None:
    cases.assert_misfits_are_refused(run)
