"""ONNX Runtime on the GPU: whether it can be had, and sessions that run there.

They run nowhere else, but for experts that the graph itself keeps on the CPU.
"""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from ferrum.custom_ops.library import describe
from ferrum.runtime.cudart import Capability, CudaError, cuda_runtime
from ferrum.runtime.settings import SettingsError

PROVIDER = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_WANTED = "[settings] device, got 'cuda', but"
# What ONNX Runtime says of nodes that it gives to the CPU; the latter where steps are captured.
_TO_THE_CPU = (
    "fallback to CPU EP has been explicitly disabled",
    "have not been partitioned to the CUDAExecutionProvider",
)
# What ONNX Runtime's arena says, its calls of CUDA, and CUDA itself.
_OUT_OF_MEMORY = ("Failed to allocate memory", "CUDA failure 2:", "out of memory")


def require_cuda() -> None:
    """SettingsError, one line, where this machine or this installation cannot run on a GPU."""
    if PROVIDER not in ort.get_available_providers():
        raise SettingsError(
            f"{_WANTED} onnxruntime {ort.__version__} is a build without CUDA -> pip uninstall "
            "onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    images = describe().get("cuda")
    if not images:
        raise SettingsError(
            f"{_WANTED} ferrum's library was built without CUDA kernels -> install ferrum anew "
            "where nvcc is found"
        )
    try:
        runtime = cuda_runtime()
        if not runtime.devices():
            raise CudaError("[cuda] no device")
        capability = runtime.capability()
    except CudaError as error:
        raise SettingsError(f"{_WANTED} there is no GPU to use: {error}") from None
    # The oldest architecture is there as PTX too, which serves all that came after it.
    oldest = Capability(*divmod(min(int(image.removeprefix("ptx")) for image in images), 10))
    if capability < oldest:
        raise SettingsError(
            f"{_WANTED} the GPU has compute capability {capability} -> one of {oldest} or newer, "
            "for which the library has kernels"
        )


def cuda_session(
    model: str | bytes, options: ort.SessionOptions, *, graphs: bool, cpu_experts: int = 0
) -> ort.InferenceSession:
    """A session whose every node runs on the GPU; `graphs` lets runs be captured and replayed.

    Where the graph keeps the experts of `cpu_experts` layers on the CPU, these nodes and no others
    run there; ONNX Runtime then refuses `graphs`. SettingsError where its CUDA provider does not
    start or nodes are placed otherwise; what else it raises is about the model.
    """
    if cpu_experts:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    else:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # Weights are as large as the memory: none of it may go to an arena that grows by doubling.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    provider: dict[str, Any] = {
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if graphs else "0",
    }
    providers: list[Any] = [(PROVIDER, provider), *([_CPU] if cpu_experts else [])]
    try:
        with cuda_runtime().turn:
            # ONNX Runtime's own fallback would try again on the CPU.
            session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        if any(words in str(error) for words in _TO_THE_CPU):
            raise SettingsError(_not_there("would leave nodes to the CPU")) from error
        raise
    if session.get_providers()[0] != PROVIDER:
        raise SettingsError(_not_there(f"started {session.get_providers()[0]}"))
    if cpu_experts:
        _check_placement(session, cpu_experts)
    return session


def _check_placement(session: ort.InferenceSession, cpu_experts: int) -> None:
    """SettingsError unless so many nodes run on the CPU, all of ops that have no other kernel."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise SettingsError(
            f"{_WANTED} onnxruntime {ort.__version__} keeps no record of where nodes run, which "
            "a graph with experts on the CPU needs -> a newer onnxruntime-gpu"
        )
    host = {op["name"] for op in describe()["ops"] if op["host"]}
    on_cpu = [
        node
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
    ]
    strays = [f"{node.name} ({node.op_type})" for node in on_cpu if node.op_type not in host]
    if strays:
        raise SettingsError(_not_there(f"would leave {', '.join(strays)} to the CPU"))
    if len(on_cpu) != cpu_experts:
        raise SettingsError(
            _not_there(f"keeps the experts of {len(on_cpu)} layers on the CPU, not {cpu_experts}")
        )


def _not_there(what: str) -> str:
    return (
        f"{_WANTED} ONNX Runtime {what} -> all of CUDA's libraries, cuBLAS and cuRAND too, where "
        "the loader finds them, and a graph written by ferrum-build"
    )


def out_of_memory(error: Exception) -> bool:
    """Whether an error of ONNX Runtime or of CUDA is that the GPU has too little memory."""
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def run_options(graph_id: int) -> ort.RunOptions:
    """Options of a run that is captured once under this id, from 1 on, and replayed ever after.

    -1 runs without capture.
    """
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options
