"""ONNX Runtime on the GPU: whether it can be had, and sessions that run there and nowhere else."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from ferrum.custom_ops.library import describe
from ferrum.runtime.cudart import CudaError, cuda_runtime
from ferrum.runtime.settings import SettingsError

PROVIDER = "CUDAExecutionProvider"
_WANTED = "[settings] device, got 'cuda', but"
_TO_THE_CPU = "fallback to CPU EP has been explicitly disabled"


def require_cuda() -> None:
    """SettingsError, one line, where this machine or this installation cannot run on a GPU."""
    if PROVIDER not in ort.get_available_providers():
        raise SettingsError(
            f"{_WANTED} onnxruntime {ort.__version__} is a build without CUDA -> pip uninstall "
            "onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    if not describe().get("cuda"):
        raise SettingsError(
            f"{_WANTED} ferrum's library was built without CUDA kernels -> install ferrum anew "
            "where nvcc is found"
        )
    try:
        if not cuda_runtime().devices():
            raise CudaError("[cuda] no device")
    except CudaError as error:
        raise SettingsError(f"{_WANTED} there is no GPU to use: {error}") from None


def cuda_session(
    model: str | bytes, options: ort.SessionOptions, *, graphs: bool
) -> ort.InferenceSession:
    """A session whose every node runs on the GPU; `graphs` lets runs be captured and replayed.

    SettingsError where ONNX Runtime's CUDA provider does not start; what else it raises is about
    the model.
    """
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # Weights are as large as the memory: none of it may go to an arena that grows by doubling.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    provider: dict[str, Any] = {
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if graphs else "0",
    }
    try:
        # ONNX Runtime's own fallback would try again on the CPU.
        session = ort.InferenceSession(
            model, options, providers=[(PROVIDER, provider)], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        if _TO_THE_CPU in str(error):
            raise SettingsError(_not_there("would leave nodes to the CPU")) from error
        raise
    if session.get_providers()[0] != PROVIDER:
        raise SettingsError(_not_there(f"started {session.get_providers()[0]}"))
    return session


def _not_there(what: str) -> str:
    return (
        f"{_WANTED} ONNX Runtime {what} -> all of CUDA's libraries, cuBLAS and cuRAND too, where "
        "the loader finds them, and a graph written by ferrum-build"
    )


def run_options(graph_id: int) -> ort.RunOptions:
    """Options of a run that is captured once under this id, from 1 on, and replayed ever after.

    -1 runs without capture.
    """
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options
