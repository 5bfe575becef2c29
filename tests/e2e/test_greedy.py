"""Greedy text of 200 tokens against float32 references."""

from __future__ import annotations

import numpy as np
import pytest
from exports import Exports, Model

TIE = 1e-3  # logits closer than this may fall either way


def first_difference(ours: list[int], theirs: list[int]) -> int | None:
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None)


def prompts(exports: Exports) -> list[list[int]]:
    return [entry["prompt_ids"] for entry in exports.reference["greedy"].values()]


@pytest.mark.parametrize("name", ["Q4_K_M", "Q8_0"])
@pytest.mark.parametrize("prompt", range(4))
def test_exact_kernels_write_the_text_of_the_same_weights_in_float32(
    exports: Exports, name: str, prompt: int
) -> None:
    """The reference bodies on stock ONNX Runtime are the float32 evaluation of these weights."""
    path, ids = exports.path(name, "float32"), prompts(exports)[prompt]
    wanted, rows = Model(path, library=False).greedy(ids, 200)
    found, _ = Model(path, arithmetic="exact").greedy(ids, 200)
    at = first_difference(found, wanted)
    assert at is None or abs(rows[at][found[at]] - rows[at][wanted[at]]) < TIE


@pytest.mark.parametrize("name", ["Q4_K_M", "Q8_0"])
@pytest.mark.parametrize("settings", [{}, {"arithmetic": "exact"}], ids=["fast", "exact"])
def test_where_the_truth_is_not_in_doubt_its_text_is_written(
    exports: Exports, name: str, settings: dict[str, str]
) -> None:
    """The truth is the unquantized model: its text is every quantization's only where its two best
    logits stay further apart than quantization moves them (0.3 here)."""
    model = Model(exports.path(name), **settings)
    clear = [e for e in exports.reference["greedy"].values() if e["min_gap"] > 0.3]
    assert len(clear) == 2
    for entry in clear:
        found, _ = model.greedy(entry["prompt_ids"], 200)
        assert found == entry["tokens"]


def test_fast_kernels_leave_the_float32_text_only_at_near_ties(exports: Exports) -> None:
    """int8 activations move logits by some hundredths: no farther may a differing choice be."""
    reference = Model(exports.path("Q4_K_M", "float32"), library=False)
    fast = Model(exports.path("Q4_K_M"))
    for ids in prompts(exports):
        wanted, rows = reference.greedy(ids, 200)
        found, _ = fast.greedy(ids, 200)
        at = first_difference(found, wanted)
        assert at is None or rows[at][wanted[at]] - rows[at][found[at]] < 0.1
        assert np.isfinite(rows[-1]).all()
