"""An export for CUDA on a CPU: the same logits, to the last bit, as without."""

from __future__ import annotations

import numpy as np
import pytest
from exports import Exports, Model

from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams

PROMPT = [7, 300, 12, 45, 45, 9, 1022, 63]


@pytest.mark.parametrize("name", ["Q4_K_M", "Q8_0", "MXFP4", "Q6_K"])
@pytest.mark.parametrize("arithmetic", ["fast", "exact"])
def test_the_kernels_give_the_bits_of_the_file_s_own_layout(
    exports: Exports, name: str, arithmetic: str
) -> None:
    plain, cuda = (
        Model(exports.path(name, layout=layout), arithmetic=arithmetic).all_logits(PROMPT)
        for layout in ("file", "cuda")
    )
    np.testing.assert_array_equal(cuda, plain)


@pytest.mark.parametrize("name", ["Q4_K_M", "MXFP4"])
def test_so_do_the_reference_bodies_on_stock_onnx_runtime(exports: Exports, name: str) -> None:
    plain, cuda = (
        Model(exports.path(name, layout=layout), library=False).all_logits(PROMPT)
        for layout in ("file", "cuda")
    )
    np.testing.assert_array_equal(cuda, plain)


def test_the_runtime_writes_the_same_text(exports: Exports) -> None:
    texts = []
    for layout in ("file", "cuda"):
        with LLM(exports.path("Q4_K_M", layout=layout), threads=2) as llm:
            params = SamplingParams(max_tokens=40, temperature=0)
            texts.append(llm.generate("def fib(n):", params)[0].text)
    assert texts[0] == texts[1]
