"""BF16 weights times activations rounded to bfloat16, where the CPU multiplies those."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ferrum.custom_ops.library import describe
from ferrum.custom_ops.quants import QUANTS

BF16 = QUANTS.by_name("BF16")
EPSILON = 2.0**-24
(ROUNDING,) = (quant["bfloat16"] for quant in describe()["quants"] if quant["id"] == BF16.id)
LONGEST = 2**17 // 6  # about: of rows whose activations are held in bfloat16


@pytest.fixture(params=ROUNDING or [None])
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction set of this machine that rounds BF16's activations."""
    if request.param is None:
        pytest.skip("this machine multiplies BF16 in float32")
    return str(request.param)


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def rounded(x: Any) -> npt.NDArray[np.float64]:
    return np.asarray(x.astype(ml_dtypes.bfloat16).astype(np.float64))


def blocks(values: Any) -> npt.NDArray[np.uint8]:
    """Rows of BF16 as the kernels take them."""
    return np.ascontiguousarray(values.astype(ml_dtypes.bfloat16)).view(np.uint8)


def multiply(kernels: Any, isa: str, weights: Any, x: Any) -> Any:
    return kernels.matmul(isa, BF16.id, weights, x, "fine")


@pytest.mark.parametrize("k", [1, 31, 32, 33, 333, 2048])
@pytest.mark.parametrize("columns", [1, 2, 5, 6, 7, 64])
def test_products_of_rounded_activations_are_exact_but_for_float_sums(
    kernels: Any, isa: str, columns: int, k: int
) -> None:
    w, x = normal(19, k), normal(columns, k, seed=1)
    got = multiply(kernels, isa, blocks(w), x)
    bound = (k + 2) * EPSILON * (np.abs(rounded(x)) @ np.abs(rounded(w)).T)
    assert (np.abs(got - rounded(x) @ rounded(w).T) <= bound).all()


def test_activations_are_rounded_to_the_nearest_and_ties_to_even(kernels: Any, isa: str) -> None:
    step = 2.0**-7
    x = np.array([1, 1 + step / 2, 1 + step * 3 / 2, 1 + step * 0.501, -1 - step / 2], np.float32)
    weights = blocks(np.eye(5))
    got = multiply(kernels, isa, weights, x[None])[0]
    np.testing.assert_array_equal(got, [1, 1, 1 + 2 * step, 1 + step, -1])


@pytest.mark.parametrize("k", [333, 2048])
def test_bits_depend_on_row_and_column_alone(kernels: Any, isa: str, k: int) -> None:
    weights, x = blocks(normal(35, k)), normal(300, k, seed=1)
    whole = multiply(kernels, isa, weights, x)
    for columns in (1, 2, 3, 6, 7, 13, 63, 64, 65):
        part = multiply(kernels, isa, weights, x[:columns])
        np.testing.assert_array_equal(part, whole[:columns], err_msg=f"{columns} columns")
    for cut in (1, 2, 3, 4, 34):
        for columns in (1, 7):
            parts = [
                multiply(kernels, isa, weights[at].copy(), x[:columns])
                for at in (slice(cut), slice(cut, None))
            ]
            np.testing.assert_array_equal(
                np.hstack(parts), whole[:columns], err_msg=f"cut at {cut}"
            )


def test_rows_too_long_to_hold_their_activations_go_in_float32(kernels: Any, isa: str) -> None:
    for k, held in (LONGEST // 64 * 64 - 64, "exact"), (LONGEST + 64, "fine"):
        weights, x = blocks(normal(5, k)), normal(7, k, seed=1)
        exact = kernels.matmul(isa, BF16.id, weights, x, "exact")
        got = multiply(kernels, isa, weights, x)
        assert np.array_equal(got, exact) != held
        np.testing.assert_array_equal(multiply(kernels, isa, weights, x[:1]), got[:1])


@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_what_is_not_a_number_spoils_its_own_column_alone(
    kernels: Any, isa: str, spoiled: float
) -> None:
    weights, x = blocks(np.abs(normal(9, 100)) + 1), normal(8, 100, seed=1)
    whole = multiply(kernels, isa, weights, x)
    x[3, 97] = spoiled
    got = multiply(kernels, isa, weights, x)
    assert not np.isfinite(got[3]).any()
    np.testing.assert_array_equal(np.delete(got, 3, 0), np.delete(whole, 3, 0))


def test_reads_at_any_alignment_and_never_past_the_last_byte(kernels: Any, isa: str) -> None:
    page, rows, k = mmap.PAGESIZE, 7, 333
    weights = blocks(normal(rows, k))
    size = (weights.size + page - 1) // page * page
    region = mmap.mmap(-1, size + page, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = np.frombuffer(region, np.uint8)
    behind = ctypes.c_void_p(view.ctypes.data + size), ctypes.c_size_t(page)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(*behind, 0) == 0
    try:
        for columns in (1, 7):
            x = normal(columns, k, seed=1)
            expected = multiply(kernels, isa, weights, x)
            for start in (size - weights.size, 1):
                moved = view[start : start + weights.size].reshape(weights.shape)
                moved[:] = weights
                np.testing.assert_array_equal(multiply(kernels, isa, moved, x), expected)
    finally:
        assert libc.mprotect(*behind, mmap.PROT_READ | mmap.PROT_WRITE) == 0


def test_values_at_the_ends_of_the_range(kernels: Any, isa: str) -> None:
    x = np.array([[2.0**127, 2.0**-126], [-(2.0**127), -(2.0**-126)]], np.float32)
    weights = np.array([[1, 0], [0, 1], [0.5, 0]])
    np.testing.assert_array_equal(multiply(kernels, isa, blocks(weights), x), x @ weights.T)
