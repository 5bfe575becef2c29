"""The KV caches: their memory, and how much of it there should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ferrum.runtime.artifact import ArtifactError, Model
from ferrum.runtime.cudart import CudaError, cuda_runtime
from ferrum.runtime.device_memory import DeviceMemory
from ferrum.runtime.free_memory import free_memory
from ferrum.runtime.settings import Settings

Bytes = npt.NDArray[np.uint8]

_ALIGNMENT = 64  # a cache line, and the widest vector load
_BFLOAT16 = 16  # ONNX's number for a type that NumPy lacks
_DEVICE_SHARE = 0.8  # of what a GPU has left beside weights and a step's own memory
_DEVICE_STEP = 1 << 30  # bytes of a GPU for what a step computes, at least
_STORED: dict[str, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,
}


class KvCaches:
    """[blocks, block_size, kv_heads, head_dim] for keys and values of every layer, by input name.

    The memory is zero pages of the system until a block is first written, so a large capacity
    costs address space and nothing else.
    """

    def __init__(self, names: list[str], model: Model, dtype: str, blocks: int, block_size: int):
        shape = (blocks, block_size, model.kv_heads, model.head_dim)
        try:
            self.arrays = {name: _aligned(shape, _STORED[dtype]) for name in names}
        except MemoryError:
            size = bytes_per_token(model, dtype) * blocks * block_size
            raise ArtifactError(
                f"[kv caches] {size / 1e9:.1f} GB for {blocks * block_size:,} tokens cannot be "
                "had -> a smaller kv_capacity"
            ) from None
        self.values = {name: _ort_value(array, dtype) for name, array in self.arrays.items()}
        # [blocks, bytes]: the same memory, without types.
        self._bytes = [array.view(np.uint8).reshape(blocks, -1) for array in self.arrays.values()]
        self.block_bytes = sum(array.shape[1] for array in self._bytes)

    @property
    def nbytes(self) -> int:
        """Bytes of all caches together."""
        return sum(array.nbytes for array in self.arrays.values())

    def read(self, block: int) -> Bytes:
        """A copy of what a block holds in all layers: uint8[block_bytes]."""
        return np.concatenate([array[block] for array in self._bytes])

    def write(self, block: int, content: Bytes) -> None:
        """Fill a block with what `read` has given."""
        for array, part in zip(self._bytes, np.split(content, len(self._bytes)), strict=True):
            array[block] = part


class DeviceKvCaches:
    """The same caches in a GPU's memory, which holds whatever was left there."""

    def __init__(self, names: list[str], model: Model, dtype: str, blocks: int, block_size: int):
        self.shape = (blocks, block_size, model.kv_heads, model.head_dim)
        stored = np.dtype(_STORED[dtype])
        # NumPy's type, or ONNX's number of it.
        self.element_type: Any = _BFLOAT16 if dtype == "bfloat16" else stored.type
        size = int(np.prod(self.shape)) * stored.itemsize
        try:
            self.memory = {name: DeviceMemory(size) for name in names}
        except CudaError as error:
            raise ArtifactError(
                f"[kv caches] {len(names) * size / 1e9:.1f} GB on the GPU for "
                f"{blocks * block_size:,} tokens cannot be had ({error}) -> a smaller kv_capacity"
            ) from None
        self._part = size // blocks  # bytes of a block in one of them
        self.block_bytes = len(names) * self._part

    def read(self, block: int) -> Bytes:
        """A copy of what a block holds in all layers: uint8[block_bytes]."""
        content = np.empty((len(self.memory), self._part), np.uint8)
        for memory, part in zip(self.memory.values(), content, strict=True):
            memory.read(part, block * self._part)
        return content.reshape(-1)

    def write(self, block: int, content: Bytes) -> None:
        """Fill a block with what `read` has given."""
        parts = content.reshape(len(self.memory), self._part)
        for memory, part in zip(self.memory.values(), parts, strict=True):
            memory.write(part, block * self._part)


def bytes_per_token(model: Model, dtype: str) -> int:
    """What one token takes in the caches of all layers."""
    return 2 * model.layers * model.kv_heads * model.head_dim * np.dtype(_STORED[dtype]).itemsize


def default_capacity(model: Model, dtype: str, settings: Settings) -> int:
    """Tokens for max_sequences contexts, but no more than a quarter of the free memory holds."""
    wanted = settings.max_sequences * model.context_length
    affordable = free_memory() // 4 // bytes_per_token(model, dtype)
    return max(settings.block_size, min(wanted, affordable))


def default_device_capacity(model: Model, dtype: str, settings: Settings) -> int:
    """Tokens for max_sequences contexts, or what the GPU has room for beside the loaded weights."""
    wanted = settings.max_sequences * model.context_length
    room = (cuda_runtime().free_memory() - _DEVICE_STEP) * _DEVICE_SHARE
    return max(settings.block_size, min(wanted, int(room) // bytes_per_token(model, dtype)))


def _aligned(shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[np.generic]:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _ort_value(array: npt.NDArray[np.generic], dtype: str) -> ort.OrtValue:
    """The array's own memory as a value of ONNX Runtime."""
    if dtype == "bfloat16":
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)
