"""RMSNorm and AddRMSNorm on the library."""

from __future__ import annotations

import numpy as np
import pytest
from native_node import run, session
from oracle import rms_norm

from ferrum.custom_ops.library import describe

ISAS = describe()["isas"]


def rows(tokens: int, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, n)).astype(np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("tokens", "n"), [(1, 1), (3, 7), (5, 64), (2, 2050), (0, 32)])
def test_norms_equal_their_definition(tokens: int, n: int, isa: str) -> None:
    x, residual, weight = rows(tokens, n, 0), rows(tokens, n, 1), rows(1, n, 2)[0]
    feeds = {"x": x, "residual": residual, "weight": weight}
    normed, total = run("AddRMSNorm", feeds, {"epsilon": 1e-6}, isa=isa)
    np.testing.assert_array_equal(total, x + residual)
    np.testing.assert_allclose(normed, rms_norm(total, weight, 1e-6), rtol=2e-6)
    alone = run("RMSNorm", {"x": total, "weight": weight}, {"epsilon": 1e-6}, isa=isa)[0]
    np.testing.assert_array_equal(alone, normed)


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_has_the_same_bits_in_any_batch(isa: str) -> None:
    x, residual, weight = rows(64, 260, 0), rows(64, 260, 1), rows(1, 260, 2)[0]
    node = session("AddRMSNorm", {"epsilon": 1e-5}, isa=isa)
    whole = node.run(None, {"x": x, "residual": residual, "weight": weight})
    for t in (0, 13, 63):
        feeds = {"x": x[t : t + 1], "residual": residual[t : t + 1], "weight": weight}
        for one, all_rows in zip(node.run(None, feeds), whole, strict=True):
            np.testing.assert_array_equal(one[0], all_rows[t])


def test_zeros_and_epsilon_zero_do_not_crash() -> None:
    feeds = {"x": np.zeros((2, 8), np.float32), "weight": np.ones(8, np.float32)}
    assert (run("RMSNorm", feeds, {"epsilon": 1e-6})[0] == 0).all()
    assert np.isnan(run("RMSNorm", feeds, {"epsilon": 0.0})[0]).all()  # 0 / 0, as defined


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 8), (2, 8), (9,)), "input weight, got shape .9., expected 8 in dimension 0"),
        (((2, 8), (3, 8), (8,)), "input residual, got shape .3, 8., expected 2 in dimension 0"),
        (((2, 8), (2, 9), (8,)), "input residual, got shape .2, 9., expected 8 in dimension 1"),
        (((2, 8), (2, 8), (8, 1)), "input weight, got rank 2, expected rank 1"),
    ],
)
def test_misfits_are_refused(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    feeds = {
        name: np.zeros(shape, np.float32)
        for name, shape in zip(("x", "residual", "weight"), shapes, strict=True)
    }
    with pytest.raises(Exception, match=rf"\[AddRMSNorm\] blk.1.norm: {message}"):
        run("AddRMSNorm", feeds, {"epsilon": 1e-6}, name="blk.1.norm")


@pytest.mark.parametrize("epsilon", [float("nan"), float("inf"), -1e-6])
def test_an_epsilon_that_is_no_use_is_refused(epsilon: float) -> None:
    with pytest.raises(Exception, match=r"\[RMSNorm\] node: attribute epsilon, got"):
        session("RMSNorm", {"epsilon": epsilon})
