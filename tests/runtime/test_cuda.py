"""A GPU that cannot be had is one clear line, never a run on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest

from ferrum.runtime import cuda
from ferrum.runtime.cudart import Capability, CudaError
from ferrum.runtime.llm import LLM
from ferrum.runtime.settings import SettingsError


class Runtime:
    def __init__(self, devices: Callable[[], int], capability: tuple[int, int] = (9, 0)) -> None:
        self.devices = devices
        self.capability = lambda: Capability(*capability)


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Everything that is needed, to take something away from."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [cuda.PROVIDER])
    monkeypatch.setattr(cuda, "describe", lambda: {"cuda": ["90", "ptx80"]})
    monkeypatch.setattr(cuda, "cuda_runtime", lambda: Runtime(lambda: 1))
    return monkeypatch


def refusal(tiny: Path) -> str:
    with pytest.raises(SettingsError, match=r"^\[settings\] device, got 'cuda', but ") as caught:
        LLM(tiny, device="cuda")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_with_everything_there_nothing_is_said(complete: pytest.MonkeyPatch) -> None:
    cuda.require_cuda()


def test_an_onnxruntime_without_cuda_is_named(complete: pytest.MonkeyPatch, tiny: Path) -> None:
    complete.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "pip install 'onnxruntime-gpu" in refusal(tiny)


@pytest.mark.parametrize("description", [{}, {"cuda": []}])
def test_a_library_without_kernels_is_named(
    complete: pytest.MonkeyPatch, tiny: Path, description: dict[str, list[str]]
) -> None:
    complete.setattr(cuda, "describe", lambda: description)
    assert "built without CUDA kernels" in refusal(tiny)


def test_a_machine_without_a_gpu_is_named(complete: pytest.MonkeyPatch, tiny: Path) -> None:
    complete.setattr(cuda, "cuda_runtime", lambda: Runtime(lambda: 0))
    assert "no device" in refusal(tiny)

    def no_driver() -> int:
        raise CudaError("[cuda] cudaGetDeviceCount: no driver (35)")

    complete.setattr(cuda, "cuda_runtime", lambda: Runtime(no_driver))
    assert "no driver" in refusal(tiny)


@pytest.mark.parametrize(
    ("images", "capability", "expected"),
    [(["ptx80", "80", "90"], (7, 5), "8.0"), (["ptx90", "90"], (8, 9), "9.0"),
     (["100", "ptx100"], (9, 0), "10.0")],
)  # fmt: skip
def test_a_gpu_that_the_library_has_no_kernels_for_is_named(
    complete: pytest.MonkeyPatch,
    tiny: Path,
    images: list[str],
    capability: tuple[int, int],
    expected: str,
) -> None:
    complete.setattr(cuda, "describe", lambda: {"cuda": images})
    complete.setattr(cuda, "cuda_runtime", lambda: Runtime(lambda: 1, capability))
    had = f"{capability[0]}.{capability[1]}"
    assert f"compute capability {had} -> one of {expected} or newer" in refusal(tiny)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (13, 0)])
def test_newer_gpus_are_served(complete: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    complete.setattr(cuda, "describe", lambda: {"cuda": ["ptx80", "80", "90"]})
    complete.setattr(cuda, "cuda_runtime", lambda: Runtime(lambda: 1, capability))
    cuda.require_cuda()
