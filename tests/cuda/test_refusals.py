"""What keeps a model off the GPU is one line, and it never runs on the CPU instead."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest
from run_on_cuda import run_on_cuda

from ferrum.runtime import kv_cache
from ferrum.runtime.artifact import ArtifactError
from ferrum.runtime.binding import GraphError
from ferrum.runtime.cudart import CudaError, CudaRuntime
from ferrum.runtime.device_memory import DeviceMemory
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.settings import SettingsError

SHORT = SamplingParams(max_tokens=3, ignore_eos=True)
ORT_OUT_OF_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: CudaCall "
    "CUDA failure 2: out of memory ; GPU=0\nexpr=cudaMalloc((void**)&p, size);"
)


def run(model: Path, libraries: Path | None) -> subprocess.CompletedProcess[str]:
    """ferrum-run with other CUDA libraries than this process has."""
    return run_on_cuda(model, LD_LIBRARY_PATH=str(libraries or ""))


def test_with_the_stand_ins_it_runs(exported: Path, stub_libraries: Path) -> None:
    done = run(exported, stub_libraries)
    assert done.returncode == 0, done.stderr


def test_a_machine_without_a_driver_is_one_line(exported: Path) -> None:
    done = run(exported, None)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ferrum-run: [settings] device, got 'cuda', but ")
    assert done.stderr.count("\n") == 1


def test_a_library_that_is_missing_is_told(
    exported: Path, stub_libraries: Path, tmp_path: Path
) -> None:
    for path in stub_libraries.glob("*.so*"):
        if "cublas" in path.name:  # what is no library at all keeps others from being found
            (tmp_path / path.name).write_text("")
        else:
            shutil.copy(path, tmp_path)
    done = run(exported, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ferrum-run: [settings] device, got 'cuda', but ONNX Runtime" in done.stderr


def test_caches_that_do_not_fit_are_one_line(
    open_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "DeviceMemory", lambda size: DeviceMemory(size << 40))
    with pytest.raises(ArtifactError, match=r"on the GPU .* -> a smaller kv_capacity") as caught:
        open_llm()
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_fit_is_told_so(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(ORT_OUT_OF_MEMORY)

    monkeypatch.setattr(ort, "InferenceSession", refuse)
    wanted = r"too little memory for 0\.0 GB of weights, with 7\.5 GB free -> .* --cpu-experts"
    with pytest.raises(SettingsError, match=wanted) as caught:
        LLM(exported, device="cuda")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("first", [True, False])
def test_memory_that_a_step_cannot_have_is_one_line(
    open_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    llm = open_llm()
    if not first:
        llm.generate([1], SHORT)

    def refuse(*_: object) -> None:
        raise CudaError("[cuda] cudaMalloc: out of memory (2)")

    wanted = r"too little memory for a step, .* -> a smaller kv_cap"
    with monkeypatch.context() as patch:
        patch.setattr(CudaRuntime, "allocate", refuse)
        with pytest.raises(GraphError, match=wanted):
            llm.generate([[1] * 100, [2] * 100, [3]], SHORT)
    assert len(llm.generate([[1] * 100, [2] * 100, [3]], SHORT)) == 3


def test_logits_that_cannot_be_read_are_the_steps_failure(
    open_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = open_llm()
    penalized = SHORT.model_copy(update={"repetition_penalty": 1.5})  # wants a row on the host
    llm.generate([1], penalized)

    def refuse(*_: object) -> None:
        raise CudaError("[cuda] cudaMemcpy: an illegal memory access was encountered (700)")

    monkeypatch.setattr(CudaRuntime, "download", refuse)
    with pytest.raises(GraphError, match=r"^\[cuda\] .* \(700\)$"):
        llm.generate([1], penalized)
