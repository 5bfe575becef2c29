"""Products of quantized rows: right for every type, and the same bits however they are cut."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrum.custom_ops.quants import QUANTS, Quant

Blocks = Callable[[str, int, float, int], npt.NDArray[np.uint8]]
QUANTIZED = [quant for quant in QUANTS if not quant.is_float]
EPSILON = 2.0**-24  # one float32 rounding
each_quant = pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
INTEGERS = ("Q4_K", "Q5_K")  # the types with an "even" product of their own


def products(quant: Quant) -> tuple[str, ...]:
    """Float types are always multiplied in float32."""
    even = ("even",) if quant.name in INTEGERS else ()
    return ("exact",) if quant.is_float else ("exact", "fine", *even)


each_product = pytest.mark.parametrize(
    ("quant", "kind"),
    [pytest.param(quant, kind, id=f"{quant.name}-{kind}")
     for quant in QUANTS for kind in products(quant)],
)  # fmt: skip
each_int8 = pytest.mark.parametrize(
    ("quant", "kind"),
    [pytest.param(quant, kind, id=f"{quant.name}-{kind}")
     for quant in QUANTIZED for kind in products(quant) if kind != "exact"],
)  # fmt: skip


def make_weights(blocks: Blocks, quant: Quant, rows: int, k: int, seed: int = 0) -> Any:
    return blocks(quant.name, rows * k // quant.block, 0.05, seed).reshape(rows, -1)


def make_x(columns: int, k: int, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng([seed, 99])
    return rng.standard_normal((columns, k)).astype(np.float32) * rng.uniform(
        0.1, 3, (columns, 1)
    ).astype(np.float32)


def rounded_to_int8(
    kernels: Any, quant: Quant, kind: str, x: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """The activations that the int8 products really see."""
    rows = []
    for row in x:
        q, scale, _ = kernels.quantize("generic", quant.id, row, kind)
        rows.append((q * scale[:, None].astype(np.float64)).ravel()[: row.size])
    return np.stack(rows)


def decoded(quant: Quant, weights: Any) -> npt.NDArray[np.float64]:
    return np.asarray(dequantize(weights, GGMLQuantizationType(quant.id)), np.float64)


def assert_close(got: Any, w: Any, x: Any, roundings: int) -> None:
    """Within `roundings` float32 roundings of the row's absolute sum. Minimums cancel against
    products up to about four times as large as the decoded values."""
    bound = roundings * EPSILON * (np.abs(x).sum(1)[:, None] * 4 * np.abs(w).max(1)[None, :])
    assert (np.abs(got - x @ w.T) <= bound).all(), np.max(np.abs(got - x @ w.T) / bound)


@each_int8
def test_int8_product_is_exact_but_for_float_sums(
    kernels: Any, isa: str, random_blocks: Blocks, quant: Quant, kind: str
) -> None:
    rows, k, columns = 37, 768, 5
    weights, x = make_weights(random_blocks, quant, rows, k), make_x(columns, k)
    got = kernels.matmul(isa, quant.id, weights, x, kind)
    # Four roundings per group of 32: scale, product, sum, minimum.
    seen = rounded_to_int8(kernels, quant, kind, x)
    assert_close(got, decoded(quant, weights), seen, 4 * k // 32)


@each_quant
def test_exact_product_is_float32_arithmetic(
    kernels: Any, isa: str, random_blocks: Blocks, quant: Quant
) -> None:
    rows, k, columns = 19, 1280, 3
    weights, x = make_weights(random_blocks, quant, rows, k), make_x(columns, k)
    got = kernels.matmul(isa, quant.id, weights, x, "exact")
    assert_close(got, decoded(quant, weights), x.astype(np.float64), 2 + k // 16)


@each_int8
def test_every_isa_gives_the_same_int8_bits(
    kernels: Any, isa: str, random_blocks: Blocks, quant: Quant, kind: str
) -> None:
    weights, x = make_weights(random_blocks, quant, 21, 512), make_x(9, 512)
    expected = kernels.matmul("generic", quant.id, weights, x, kind)
    np.testing.assert_array_equal(kernels.matmul(isa, quant.id, weights, x, kind), expected)


@each_product
def test_bits_depend_on_row_and_column_alone(
    kernels: Any, isa: str, random_blocks: Blocks, quant: Quant, kind: str
) -> None:
    k, rows = 512 if quant.block > 1 else 333, 35
    weights, x = make_weights(random_blocks, quant, rows, k), make_x(33, k)
    whole = kernels.matmul(isa, quant.id, weights, x, kind)
    for columns in (1, 2, 3, 4, 7, 8, 9, 16, 17, 32):
        part = kernels.matmul(isa, quant.id, weights, x[:columns], kind)
        np.testing.assert_array_equal(part, whole[:columns], err_msg=f"{columns} columns")
    for cut in (1, 2, 15, 16, 17, 34):
        top = kernels.matmul(isa, quant.id, weights[:cut].copy(), x[:2], kind)
        rest = kernels.matmul(isa, quant.id, weights[cut:].copy(), x[:2], kind)
        np.testing.assert_array_equal(np.hstack([top, rest]), whole[:2], err_msg=f"cut at {cut}")


@each_int8
@pytest.mark.parametrize("rows", [1, 37])
def test_few_columns_have_the_bits_they_have_among_others(
    kernels: Any, isa: str, random_blocks: Blocks, quant: Quant, kind: str, rows: int
) -> None:
    """Alone they may be multiplied in runs of 256 values, of which some rows share a vector."""
    for runs in (*range(1, 9), 12, 13, 16, 17):
        weights, x = make_weights(random_blocks, quant, rows, 256 * runs), make_x(5, 256 * runs)
        expected = kernels.matmul("generic", quant.id, weights, x, kind)
        for columns in range(1, len(x)):
            few = kernels.matmul(isa, quant.id, weights, x[-columns:], kind)
            message = f"{runs} runs, {columns} columns"
            np.testing.assert_array_equal(few, expected[-columns:], err_msg=message)


@pytest.mark.parametrize(
    ("name", "kind", "k"), [("Q6_K", "fine", 2**18 + 512), ("Q4_K", "even", 2**19 + 256)]
)
def test_very_long_rows(
    kernels: Any, isa: str, random_blocks: Blocks, name: str, kind: str, k: int
) -> None:
    quant = QUANTS.by_name(name)
    weights, x = make_weights(random_blocks, quant, 3, k), make_x(2, k)
    expected = kernels.matmul("generic", quant.id, weights, x, kind)
    np.testing.assert_array_equal(kernels.matmul(isa, quant.id, weights, x, kind), expected)
    seen = rounded_to_int8(kernels, quant, kind, x)
    assert_close(expected, decoded(quant, weights), seen, 4 * k // 32)


@each_quant
@settings(max_examples=15, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.data())
def test_any_shape(
    kernels: Any, isa: str, random_blocks: Blocks, quant: Quant, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, 40), label="rows")
    columns = data.draw(st.integers(1, 20), label="columns")
    blocks = data.draw(st.integers(1, 6 if quant.block > 1 else 200), label="blocks")
    kind = data.draw(st.sampled_from(products(quant)), label="kind")
    k = blocks * quant.block
    weights = make_weights(random_blocks, quant, rows, k, seed=blocks)
    x = make_x(columns, k, seed=rows)
    seen = x.astype(np.float64) if kind == "exact" else rounded_to_int8(kernels, quant, kind, x)
    got = kernels.matmul(isa, quant.id, weights, x, kind)
    assert_close(got, decoded(quant, weights), seen, 8 + k // 4)


@each_product
@pytest.mark.parametrize("columns", [1, 3, 4])
@pytest.mark.parametrize("runs", [0, 3], ids=["short rows", "runs of 256"])
def test_reads_at_any_alignment_and_never_past_the_last_byte(
    kernels: Any, isa: str, random_blocks: Blocks, quant: Quant, kind: str, columns: int, runs: int
) -> None:
    short = quant.block if quant.block == 256 else 160 if quant.block < 64 else 192
    rows, k = 18, 256 * runs or short
    weights, x = make_weights(random_blocks, quant, rows, k), make_x(columns, k)
    # The weights end where the file's mapping ends; beyond it every read would fault.
    page = mmap.PAGESIZE
    size = (weights.size + page - 1) // page * page
    region = mmap.mmap(-1, size + page, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = np.frombuffer(region, np.uint8)
    protect(view.ctypes.data + size, page)
    try:
        at_end = view[size - weights.size : size].reshape(weights.shape)
        at_end[:] = weights
        expected = kernels.matmul(isa, quant.id, weights.copy(), x, kind)
        np.testing.assert_array_equal(kernels.matmul(isa, quant.id, at_end, x, kind), expected)
        odd = view[1 : 1 + weights.size].reshape(weights.shape)
        odd[:] = weights
        np.testing.assert_array_equal(kernels.matmul(isa, quant.id, odd, x, kind), expected)
    finally:
        unprotect(view.ctypes.data + size, page)


def protect(address: int, size: int) -> None:
    _mprotect(address, size, 0)


def unprotect(address: int, size: int) -> None:
    _mprotect(address, size, mmap.PROT_READ | mmap.PROT_WRITE)


def _mprotect(address: int, size: int, protection: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    status = libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), protection)
    assert status == 0, ctypes.get_errno()


@each_int8
def test_extreme_codes_do_not_saturate(
    kernels: Any, isa: str, random_blocks: Blocks, quant: Quant, kind: str
) -> None:
    # Every byte 0xff or 0x80 in the codes and activations all at +127 or -127: the largest sums.
    rows, k = 17, 512
    x = np.full((3, k), 2.0, np.float32)
    x[1], x[2, ::2] = -2.0, -2.0
    for fill in (0x00, 0x7F, 0x80, 0xFF):
        weights = make_weights(random_blocks, quant, rows, k)
        flat = weights.reshape(-1, quant.bytes)
        keep = scale_bytes(quant.name)
        mask = np.ones(quant.bytes, bool)
        mask[keep] = False
        flat[:, mask] = fill
        with np.errstate(all="ignore"):
            w = decoded(quant, weights)
        for columns in (x, x[:1], x[1:2], x[2:]):
            got = kernels.matmul(isa, quant.id, weights, columns, kind)
            assert_close(got, w, rounded_to_int8(kernels, quant, kind, columns), 4 * k // 32 + 4)


def scale_bytes(name: str) -> list[int]:
    """Where the float16 (or exponent) scales lie: left as they are, the codes are overwritten."""
    places = {
        "Q2_K": [80, 81, 82, 83], "Q3_K": [108, 109], "Q6_K": [208, 209], "TQ1_0": [52, 53],
        "TQ2_0": [64, 65], "MXFP4": [0], "NVFP4": [0, 1, 2, 3], "IQ1_M": list(range(48, 56)),
    }  # fmt: skip
    return places.get(name, [0, 1, 2, 3] if name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else [0, 1])


@pytest.mark.parametrize("kind", ["fine", "even"])
def test_a_nan_activation_makes_its_outputs_nan_and_no_others(
    kernels: Any, isa: str, random_blocks: Blocks, kind: str
) -> None:
    quant = QUANTS.by_name("Q4_K")
    weights, x = make_weights(random_blocks, quant, 16, 256), make_x(3, 256)
    x[1, 40], x[2, 41] = np.nan, np.inf
    got = kernels.matmul(isa, quant.id, weights, x, kind)
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1:]).all()
