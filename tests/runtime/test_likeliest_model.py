"""The graph that finds the likeliest tokens, run on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from ferrum.runtime.likeliest_model import FOUND, LOGITS, SCALES, likeliest_model


@pytest.mark.parametrize(
    ("vocabulary", "count"), [(64, 64), (263, 64), (1024, 64), (5000, 64), (7001, 7), (151_936, 64)]
)
def test_it_finds_the_largest_and_their_total(vocabulary: int, count: int) -> None:
    session = ort.InferenceSession(
        likeliest_model(vocabulary, count), providers=["CPUExecutionProvider"]
    )
    logits = (np.random.default_rng(0).standard_normal((3, vocabulary)) * 3).astype(np.float32)
    logits[1] = np.round(logits[1])  # many ties
    scales = np.array([[1], [0.5], [2]], np.float32)
    (found,) = session.run([FOUND], {LOGITS: logits, SCALES: scales})
    wanted = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    assert np.array_equal(found[:, count:-1], wanted)
    assert np.array_equal(found[:, :count], np.take_along_axis(logits, wanted, 1))
    below = (logits - logits.max(1, keepdims=True)).astype(np.float64)
    # A float32 sum over a vocabulary is good to some 1e-5.
    np.testing.assert_allclose(found[:, -1], np.exp(below * scales).sum(1), rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_total_tells_that_logits_are_no_numbers(bad: float) -> None:
    session = ort.InferenceSession(likeliest_model(5000, 64), providers=["CPUExecutionProvider"])
    logits = np.zeros((2, 5000), np.float32)
    logits[0, 4000] = bad
    (found,) = session.run(None, {LOGITS: logits, SCALES: np.ones((2, 1), np.float32)})
    assert np.isfinite(found[:, -1]).tolist() == [False, True]


def test_a_vocabulary_that_float32_cannot_count_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vocabulary .* -> 64 to 16777216"):
        likeliest_model((1 << 24) + 1, 64)
