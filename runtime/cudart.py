"""The CUDA runtime library that ONNX Runtime uses, as far as this package calls it itself."""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
import threading
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import onnxruntime as ort

HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # cudaDeviceAttr
_NAME_BYTES = 128


class CudaError(RuntimeError):
    """A call of the CUDA runtime that failed, or the library that cannot be had; one line."""


class Capability(NamedTuple):
    """A compute capability; the later one is the larger."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True)
class Gpu:
    """The GPU in use, in the words of a record."""

    name: str
    capability: str  # "9.0"
    multiprocessors: int
    memory_bytes: int


class CudaRuntime:
    """The calls that are needed; each raises CudaError with CUDA's own sentence.

    `turn` is for whoever uses the GPU. While ONNX Runtime captures a graph, in whichever thread,
    CUDA refuses the process's other threads whatever may wait for the GPU: taking memory, copying
    and freeing. So one thread at a time runs a step, loads a model or calls any of these.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.turn = threading.RLock()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        for name, types in {
            "cudaMalloc": [pointer, size],
            "cudaFree": [pointer],
            "cudaMemcpy": [pointer, pointer, size, ctypes.c_int],
            "cudaMemcpyAsync": [pointer, pointer, size, ctypes.c_int, pointer],
            "cudaStreamSynchronize": [pointer],
            "cudaMemGetInfo": [pointer, pointer],
            "cudaGetDeviceCount": [pointer],
            "cudaDeviceGetAttribute": [pointer, ctypes.c_int, ctypes.c_int],
        }.items():
            getattr(self._library, name).argtypes = types

    def devices(self) -> int:
        """How many GPUs CUDA has; CudaError where there is no driver for it."""
        count = ctypes.c_int()
        self._call("cudaGetDeviceCount", ctypes.byref(count))
        return count.value

    def free_memory(self) -> int:
        """Bytes of the GPU's memory that nobody has."""
        return self._memory()[0]

    def gpu(self) -> Gpu:
        """The GPU in use."""
        multiprocessors = self._attribute(_MULTIPROCESSORS)
        return Gpu(_device_name(), str(self.capability()), multiprocessors, self._memory()[1])

    def capability(self) -> Capability:
        """The compute capability of the GPU in use."""
        return Capability(self._attribute(_MAJOR), self._attribute(_MINOR))

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of the GPU's memory, as they were left."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), size)
        return address.value or 0

    def free(self, address: int) -> None:
        """Give memory back. No error: at the end of a process CUDA may be gone already, and a
        thread that has the turn is never heard of again."""
        if sys.is_finalizing():
            return
        with self.turn:
            self._library.cudaFree(address)

    def upload(self, target: int, source: int, size: int) -> None:
        """Copy bytes to the GPU; they are there when it returns.

        A plain cudaMemcpy may return before they are, and streams such as ONNX Runtime's, which do
        not wait for the default one, could then read what was there before.
        """
        self._call("cudaMemcpyAsync", target, source, size, HOST_TO_DEVICE, None)
        self._call("cudaStreamSynchronize", None)

    def download(self, target: int, source: int, size: int) -> None:
        """Copy bytes from the GPU; they are here when it returns."""
        self._call("cudaMemcpy", target, source, size, DEVICE_TO_HOST)

    def _memory(self) -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def _attribute(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
        return value.value

    def _call(self, name: str, *arguments: object) -> None:
        with self.turn:
            status = getattr(self._library, name)(*arguments)
        if status:
            said = self._library.cudaGetErrorString(status) or b"no description"
            raise CudaError(f"[cuda] {name}: {said.decode(errors='replace')} ({status})")


@cache
def cuda_runtime() -> CudaRuntime:
    """The process's CUDA runtime; CudaError where its library is not found."""
    # ONNX Runtime's build decides the version; "" without CUDA.
    version = getattr(ort, "cuda_version", "").split(".")[0] or "13"
    name = f"libcudart.so.{version}"
    try:
        return CudaRuntime(ctypes.CDLL(name))
    except OSError:
        pass
    # Libraries that pip installs (onnxruntime-gpu[cuda,cudnn]) lie where the loader does not look.
    with contextlib.redirect_stdout(io.StringIO()):
        getattr(ort, "preload_dlls", lambda: None)()
    try:
        return CudaRuntime(ctypes.CDLL(name))
    except OSError:
        raise CudaError(
            f"[cuda] {name} is not found -> pip install 'onnxruntime-gpu[cuda,cudnn]', or the "
            "folder of CUDA's libraries in LD_LIBRARY_PATH"
        ) from None


def _device_name() -> str:
    """What the driver calls the first GPU that it shows."""
    name = ctypes.create_string_buffer(_NAME_BYTES)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        if driver.cuInit(0) or driver.cuDeviceGetName(name, _NAME_BYTES, 0):
            return "GPU"
    except (OSError, AttributeError):
        return "GPU"
    return name.value.decode(errors="replace")
