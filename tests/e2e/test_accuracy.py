"""Logits of whole models against the float32 truth and against llama.cpp's distance from it.

What the figures are is said in the reference data's own README: `mean_kl` is KL(truth || engine)
over 384 positions, mostly the loss of the weights; `arithmetic_kl` is what the engine adds to it.
"""

from __future__ import annotations

import numpy as np
import pytest
from exports import TYPES, Exports, Model, divergence

EVERY_FILE = pytest.mark.parametrize("name", TYPES)


def logits(model: Model, exports: Exports) -> np.ndarray:
    """float32[4, 96, vocab] of the reference texts."""
    return np.stack([model.all_logits(tokens) for tokens in exports.truth["tokens"]])


@EVERY_FILE
def test_exact_arithmetic_adds_nothing_to_the_weights_own_loss(exports: Exports, name: str) -> None:
    model = Model(exports.path(name, "float32"), arithmetic="exact")
    found = model.all_logits(exports.truth["tokens"][0])[-16:]
    assert divergence(exports.dequantized[name], found).mean() < 1e-8


@EVERY_FILE
def test_fast_arithmetic_is_as_near_to_the_truth_as_llama_cpp(exports: Exports, name: str) -> None:
    found = logits(Model(exports.path(name)), exports)
    theirs = exports.reference["llama"][name]
    ours = divergence(exports.truth["logits"], found).mean()
    # Both land a little above or below the weights' loss by chance; 2 % counts as equal.
    assert ours <= 1.02 * theirs["mean_kl"]
    added = divergence(exports.dequantized[name], found[0, -16:]).mean()
    assert added <= theirs["arithmetic_kl"]


@EVERY_FILE
def test_fast_arithmetic_picks_the_truths_token_as_often_as_its_peers(
    exports: Exports, name: str
) -> None:
    """Within two of 384 positions: near ties fall by chance. The same weights evaluated in float32
    are two positions short of llama.cpp's count on Q2_K, one on Q4_K_M."""
    found = logits(Model(exports.path(name)), exports)
    truth = exports.truth["logits"].argmax(-1)
    theirs = round(exports.reference["llama"][name]["top1"] * truth.size)
    assert (found.argmax(-1) == truth).sum() >= theirs - 2


@EVERY_FILE
def test_stock_onnx_runtime_gives_the_same_logits_without_the_library(
    exports: Exports, name: str
) -> None:
    tokens = exports.truth["tokens"][0]
    path = exports.path(name, "float32")
    stock = Model(path, library=False).all_logits(tokens)
    kernels = Model(path, arithmetic="exact").all_logits(tokens)
    np.testing.assert_allclose(stock, kernels, rtol=0, atol=1e-4)
    np.testing.assert_allclose(stock[-16:], exports.dequantized[name], rtol=0, atol=1e-4)
