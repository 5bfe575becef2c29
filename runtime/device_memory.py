"""Memory of the GPU: pieces of it, what is written to them and read from them."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ferrum.runtime.cudart import CudaRuntime, cuda_runtime


class DeviceMemory:
    """Bytes of the GPU's memory at an address that never changes, given back with the object."""

    def __init__(self, size: int) -> None:
        """CudaError where there is not so much. It holds whatever was left there."""
        self.address, self.size = 0, size
        self._cuda: CudaRuntime = cuda_runtime()
        self.address = self._cuda.allocate(size)

    def write(self, array: npt.NDArray[Any], offset: int = 0) -> None:
        """Put an array's bytes there; they are there when it returns."""
        self._check(array, offset)
        self._cuda.upload(self.address + offset, array.ctypes.data, array.nbytes)

    def read(self, array: npt.NDArray[Any], offset: int = 0) -> None:
        """Fill an array with the bytes that lie there."""
        self._check(array, offset)
        self._cuda.download(array.ctypes.data, self.address + offset, array.nbytes)

    def _check(self, array: npt.NDArray[Any], offset: int) -> None:
        assert array.flags.c_contiguous
        assert 0 <= offset <= self.size - array.nbytes

    def __del__(self) -> None:
        if self.address:
            self._cuda.free(self.address)


class GrowingMemory:
    """Device memory for whatever size is asked for, in a place that moves only to grow."""

    def __init__(self) -> None:
        self._memory: DeviceMemory | None = None

    def at_least(self, size: int) -> DeviceMemory:
        """Memory of `size` bytes or more; what it held is lost where it must grow."""
        if self._memory is None or self._memory.size < size:
            self._memory = None  # gives the old piece back before the new one is taken
            self._memory = DeviceMemory(1 << (size - 1).bit_length())
        return self._memory
