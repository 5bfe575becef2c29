"""Every ggml type decodes to the gguf package's values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from ferrum.custom_ops.quants import QUANTS, Quant


def decode_both(kernels: Any, quant: Quant, raw: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    count = raw.size // quant.bytes * quant.block
    with np.errstate(all="ignore"):  # random scales overflow, as they may
        expected = dequantize(raw.reshape(-1, quant.bytes), GGMLQuantizationType(quant.id))
    return kernels.dequantize(quant.id, raw, count), np.asarray(expected, np.float32).ravel()


def test_table_equals_pythons(kernels: Any) -> None:
    native = {(row.name, row.id, row.block, row.bytes) for row in kernels.table()}
    assert native == {(row.name, row.id, row.block, row.bytes) for row in QUANTS}


@pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
def test_random_bytes_decode_to_the_gguf_packages_values(kernels: Any, quant: Quant) -> None:
    # Random halves include subnormals, infinities and NaN.
    rng = np.random.default_rng(quant.id)
    raw = rng.integers(0, 256, (max(1, 2**18 // quant.block), quant.bytes), dtype=np.uint8)
    got, expected = decode_both(kernels, quant, raw)
    # One rounding of float32, and equal where the value is not a number.
    np.testing.assert_array_max_ulp(got[np.isfinite(expected)], expected[np.isfinite(expected)], 1)
    np.testing.assert_array_equal(got[~np.isfinite(expected)], expected[~np.isfinite(expected)])


@pytest.mark.parametrize("name", ["MXFP4", "NVFP4"])
def test_every_scale_byte_of_the_fp4_types(kernels: Any, name: str) -> None:
    quant = QUANTS.by_name(name)
    raw = np.random.default_rng(7).integers(0, 256, (256, quant.bytes), dtype=np.uint8)
    raw[:, 0] = np.arange(256)
    got, expected = decode_both(kernels, quant, raw)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
def test_blocks_may_lie_at_any_byte(kernels: Any, quant: Quant) -> None:
    count = 3 * quant.block
    raw = np.random.default_rng(5).integers(0, 100, 3 * quant.bytes, dtype=np.uint8)
    shifted = np.empty(raw.size + 1, np.uint8)
    shifted[1:] = raw
    np.testing.assert_array_equal(
        kernels.dequantize(quant.id, shifted[1:], count), kernels.dequantize(quant.id, raw, count)
    )


def test_unknown_type_and_part_of_a_block_are_refused(kernels: Any) -> None:
    with pytest.raises(ValueError, match="returned 2"):
        kernels.dequantize(5, np.zeros(18, np.uint8), 32)
    with pytest.raises(ValueError, match="returned 4"):
        kernels.dequantize(2, np.zeros(18, np.uint8), 31)
