"""Every node runs on the GPU, and nothing is copied between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest

from ferrum.runtime import cuda
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams

NAME = "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("dtype", "layout"), [("f32", "file"), ("f16", "file"), ("bf16", "file"), ("f32", "cuda")]
)
def test_all_nodes_are_on_the_gpu_and_none_copies(
    open_llm: Callable[..., LLM],
    dtype: str,
    layout: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[ort.InferenceSession] = []
    cuda_session = ort.InferenceSession

    def recording(model: Any, options: ort.SessionOptions, **given: Any) -> ort.InferenceSession:
        options.optimized_model_filepath = str(tmp_path / f"{len(made)}.onnx")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        made.append(cuda_session(model, options, **given))
        return made[-1]

    monkeypatch.setattr(cuda.ort, "InferenceSession", recording)
    open_llm(dtype, layout).generate([1, 2, 3], SamplingParams(max_tokens=2, ignore_eos=True))
    assert len(made) == 2  # the model, and what finds the likeliest tokens
    for number, session in enumerate(made):
        parts = session.get_provider_graph_assignment_info()
        assert {part.ep_name for part in parts} == {NAME}
        optimized = onnx.load(tmp_path / f"{number}.onnx", load_external_data=False)
        kinds = {node.op_type for node in optimized.graph.node}
        assert not [kind for kind in kinds if kind.startswith("Memcpy")]
        if number == 0:
            assert ("Cast" in kinds) == (dtype != "f32")
