"""Nodes are made only as their contracts say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrum.custom_ops.ops import OPS
from ferrum.custom_ops.ops_page import page


def test_a_missing_attribute_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"QuantMatMul.*\['type'\]"):
        OPS["QuantMatMul"].node(["x", "w"], ["y"], "blk.0.o")


def test_an_unknown_attribute_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="tpye"):
        OPS["QuantMatMul"].node(["x", "w"], ["y"], "blk.0.o", type=12, tpye=12)


def test_a_wrong_number_of_ports_is_refused() -> None:
    with pytest.raises(TypeError, match="1 inputs and 1 outputs -> 2 and 1"):
        OPS["QuantMatMul"].node(["x"], ["y"], "blk.0.o", type=12)


def test_ops_md_says_what_the_contracts_say() -> None:
    written = (Path(__file__).parents[2] / "custom_ops" / "OPS.md").read_text()
    assert written == page(), "run: python -m ferrum.custom_ops.ops_page > custom_ops/OPS.md"
