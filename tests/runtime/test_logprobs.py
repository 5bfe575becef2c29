"""Log-probabilities against float64 sums."""

from __future__ import annotations

import numpy as np
import pytest

from ferrum.runtime.logprobs import token_logprobs


def test_logprobs_are_of_the_model_itself() -> None:
    logits = (np.random.default_rng(2).standard_normal(5000) * 3).astype(np.float32)
    wide = logits.astype(np.float64)
    exact = wide - np.log(np.exp(wide).sum())
    found = token_logprobs(logits, 17, 3)
    best = np.argsort(-wide)[:3]
    assert found.logprob == pytest.approx(exact[17], abs=1e-12)
    assert [token for token, _ in found.top] == best.tolist()
    np.testing.assert_allclose([p for _, p in found.top], exact[best], atol=1e-12)
    assert token_logprobs(logits, 17, 0).top == ()
