"""The sample model on a GPU against the same export on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ferrum import LLM, SamplingParams
from ferrum.builder.cli import main as build
from ferrum.runtime.session import Session

PROMPTS = [
    "class Node:\n    def __init__(self, value, parent=None):\n        self.value = value\n",
    "def binary_search(values, wanted):\n    low, high = 0, len(values)\n    while low < high:\n",
    "import os\n\n\ndef walk(folder):\n    for root, names, files in os.walk(folder):\n",
]
GREEDY = SamplingParams(max_tokens=100)
TIE = 0.02  # logits closer than this may fall either way

Rows = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def export(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "model.onnx"
    assert build([str(sample), str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def gpu(export: Path) -> Iterator[LLM]:
    with LLM(export, device="cuda", kv_capacity=8192) as llm:
        yield llm


@pytest.fixture(scope="module")
def cpu(export: Path) -> Iterator[LLM]:
    with LLM(export, arithmetic="exact", kv_capacity=8192) as llm:
        yield llm


def forced(session: Session, prompt: list[int], tokens: list[int]) -> Rows:
    """Logits after the prompt and after each of these tokens: [1 + tokens, vocabulary]."""
    rows = [session.prefill("forced", prompt)]
    rows += [session.decode("forced", token).copy() for token in tokens]
    session.release("forced")
    return np.stack(rows)


def log_softmax(rows: Rows) -> npt.NDArray[np.float64]:
    wide = rows.astype(np.float64) - rows.max(-1, keepdims=True)
    log_sum: npt.NDArray[np.float64] = np.log(np.exp(wide).sum(-1, keepdims=True))
    return wide - log_sum


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_distributions_are_the_exact_ones(cpu: LLM, gpu: LLM, prompt: str) -> None:
    """What the GPU's arithmetic costs beyond the weights': at most 1e-3 of KL, token by token."""
    ids = cpu.tokenizer.encode(prompt)
    tokens = cpu.generate(prompt, GREEDY)[0].token_ids
    exact = log_softmax(forced(cpu.session, ids, list(tokens)))
    found = log_softmax(forced(gpu.session, ids, list(tokens)))
    divergence = (np.exp(exact) * (exact - found)).sum(-1)
    print(f"KL {divergence.mean():.2e}, at most {divergence.max():.2e}")
    assert divergence.mean() < 1e-4
    assert divergence.max() < 1e-3


@pytest.mark.parametrize(("dtype", "most"), [("f16", 1e-4), ("bf16", 1e-3)])
def test_activations_of_2_bytes_leave_the_distributions_as_they_are(
    sample: Path, tmp_path: Path, cpu: LLM, dtype: str, most: float
) -> None:
    """And captured steps have the bits of eager ones."""
    path = tmp_path / "model.onnx"
    assert build([str(sample), str(path), "--dtype", dtype]) == 0
    with (
        LLM(path, device="cuda", kv_capacity=8192) as gpu,
        LLM(path, device="cuda", cuda_graphs=False, kv_capacity=8192) as eager,
    ):
        for prompt in PROMPTS:
            ids = cpu.tokenizer.encode(prompt)
            tokens = list(cpu.generate(prompt, GREEDY)[0].token_ids)
            exact = log_softmax(forced(cpu.session, ids, tokens))
            rows = forced(gpu.session, ids, tokens)
            np.testing.assert_array_equal(forced(eager.session, ids, tokens), rows)
            divergence = (np.exp(exact) * (exact - log_softmax(rows))).sum(-1)
            print(f"{dtype}: KL {divergence.mean():.2e}, at most {divergence.max():.2e}")
            assert divergence.mean() < most


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_leaves_the_exact_one_only_at_near_ties(
    cpu: LLM, gpu: LLM, prompt: str
) -> None:
    wanted = list(cpu.generate(prompt, GREEDY)[0].token_ids)
    found = list(gpu.generate(prompt, GREEDY)[0].token_ids)
    pairs = zip(found, wanted, strict=True)
    at = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
    if at is not None:
        row = forced(cpu.session, cpu.tokenizer.encode(prompt), wanted[:at])[-1]
        assert row[wanted[at]] - row[found[at]] < TIE


def test_captured_steps_have_the_bits_of_eager_ones(export: Path, gpu: LLM) -> None:
    ids = gpu.tokenizer.encode(PROMPTS[0])
    tokens = list(gpu.generate(PROMPTS[0], GREEDY)[0].token_ids)
    captured = forced(gpu.session, ids, tokens)
    with LLM(export, device="cuda", cuda_graphs=False, kv_capacity=8192) as eager:
        np.testing.assert_array_equal(forced(eager.session, ids, tokens), captured)
    np.testing.assert_array_equal(forced(gpu.session, ids, tokens), captured)


def test_sequences_that_run_together_write_what_they_write_alone(gpu: LLM) -> None:
    together = gpu.generate(PROMPTS, GREEDY)
    for prompt, completion in zip(PROMPTS, together, strict=True):
        assert gpu.generate(prompt, GREEDY)[0].token_ids == completion.token_ids


def test_experts_on_the_cpu_write_the_same_text(sample: Path, gpu: LLM, tmp_path: Path) -> None:
    path = tmp_path / "split.onnx"
    assert build([str(sample), str(path), "--cpu-experts", "2"]) == 0
    with LLM(path, device="cuda", arithmetic="exact", kv_capacity=8192) as split:
        for prompt in PROMPTS:
            found, wanted = (llm.generate(prompt, GREEDY)[0].token_ids for llm in (split, gpu))
            assert found == wanted


def test_re_laid_weights_give_the_same_bits(sample: Path, gpu: LLM, tmp_path: Path) -> None:
    path = tmp_path / "planes.onnx"
    assert build([str(sample), str(path), "--layout", "cuda"]) == 0
    with LLM(path, device="cuda", kv_capacity=8192) as planes:
        for prompt in PROMPTS:
            ids = gpu.tokenizer.encode(prompt)
            tokens = list(gpu.generate(prompt, GREEDY)[0].token_ids)
            found, wanted = (forced(llm.session, ids, tokens) for llm in (planes, gpu))
            np.testing.assert_array_equal(found, wanted)


def test_sampling_on_the_gpu_gives_the_tokens_of_sampling_all_logits(export: Path) -> None:
    params = SamplingParams(max_tokens=60, temperature=0.8, top_p=0.95, top_k=20, seed=7)
    free = SamplingParams(max_tokens=60, temperature=1.5, seed=7)
    with LLM(export, device="cuda", kv_capacity=8192) as one:
        first = [one.generate(PROMPTS[0], p)[0].token_ids for p in (params, free)]
        again = [one.generate(PROMPTS[0], p)[0].token_ids for p in (params, free)]
    assert first == again
    assert first[0] != first[1]
