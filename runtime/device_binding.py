"""One step of the graph on a GPU: inputs uploaded in one piece, logits left where they are.

A decode step that has been padded to a bucket's shape has memory and an IO-binding of its own,
whose addresses never change: ONNX Runtime captures its launches in a CUDA graph at the first run
and replays them at every other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrum.runtime.batcher import StepArrays
from ferrum.runtime.binding import GraphError
from ferrum.runtime.cuda import out_of_memory, run_options
from ferrum.runtime.cudart import CudaError, cuda_runtime
from ferrum.runtime.device_memory import DeviceMemory, GrowingMemory
from ferrum.runtime.graph import INPUTS, LOGITS, Graph, one_line
from ferrum.runtime.home_thread import HomeThread
from ferrum.runtime.kv_cache import DeviceKvCaches
from ferrum.runtime.likeliest import Likeliest
from ferrum.runtime.likeliest_finder import LikeliestFinder
from ferrum.runtime.logits import Floats, LogitsRow

_ALIGNMENT = 256  # of each input, as of what cudaMalloc gives


@contextmanager
def _on_the_gpu() -> Iterator[None]:
    """Nobody else uses the GPU in the block; what fails in it is a GraphError of one line."""
    with cuda_runtime().turn:
        try:
            yield
        except AssertionError:  # our own, which no other step puts right
            raise
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            if out_of_memory(error):
                raise GraphError(
                    f"[graph] the GPU has too little memory for a step, with "
                    f"{cuda_runtime().free_memory() / 1e9:.1f} GB free -> a smaller kv_capacity "
                    "or step_tokens"
                ) from error
            where = "" if isinstance(error, CudaError) else "[graph] "
            raise GraphError(where + one_line(error)) from error


class _Inputs:
    """A step's input arrays side by side, so that one copy takes them to the GPU."""

    def __init__(self) -> None:
        self._host = np.empty(0, np.uint8)
        self._device = GrowingMemory()

    def load(self, step: StepArrays) -> dict[str, int]:
        """Copy a step's arrays; the address of each. Shapes alone decide where they lie."""
        arrays = {name: getattr(step, name) for name in INPUTS}
        starts, size = {}, 0
        for name, array in arrays.items():
            starts[name] = size
            size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        if self._host.size < size:
            self._host = np.zeros(1 << (size - 1).bit_length(), np.uint8)
        for name, array in arrays.items():
            end = starts[name] + array.nbytes
            self._host[starts[name] : end] = array.reshape(-1).view(np.uint8)
        memory = self._device.at_least(size)
        memory.write(self._host[:size])
        return {name: memory.address + start for name, start in starts.items()}


@dataclass
class _Bucket:
    """What steps of one shape use, always the same."""

    inputs: _Inputs
    binding: Any
    options: Any


class DeviceBinding:
    """Runs a graph's steps over caches in a GPU's memory."""

    def __init__(self, graph: Graph, caches: DeviceKvCaches, *, graphs: bool) -> None:
        """`graphs`: the graph was loaded so that steps can be captured."""
        self._session, self._graph, self._caches = graph.session, graph, caches
        self._vocabulary = graph.manifest.model.vocabulary
        self._graphs = graphs
        self._eager = _Bucket(_Inputs(), self._binding(), run_options(-1))
        self._eager_logits = GrowingMemory()
        self._buckets: dict[tuple[int, ...], _Bucket] = {}
        self._logits: dict[int, DeviceMemory] = {}  # of buckets of so many rows
        self._finder: LikeliestFinder | None = None
        self._home = HomeThread()

    def run(self, step: StepArrays) -> DeviceLogits:
        """One step. GraphError with the graph's own sentence."""
        return self._home.run(lambda: self._run(step))

    def captured(self) -> dict[str, npt.NDArray[np.generic]]:
        """The captured outputs of the last step."""
        names = self._graph.captured
        if not names:
            return {}
        last = self._eager.binding.get_outputs()[-len(names) :]
        return {name: value.numpy() for name, value in zip(names, last, strict=True)}

    def likeliest(
        self, logits: DeviceMemory, rows: int, scales: Sequence[float | None], *, fixed: bool
    ) -> list[Likeliest | None]:
        """See LikeliestFinder.find; GraphError where it fails."""
        if all(scale is None for scale in scales):
            return [None] * len(scales)
        return self._home.run(lambda: self._find(logits, rows, scales, fixed=fixed))

    def _find(
        self, logits: DeviceMemory, rows: int, scales: Sequence[float | None], *, fixed: bool
    ) -> list[Likeliest | None]:
        with _on_the_gpu():
            if self._finder is None:
                self._finder = LikeliestFinder(self._vocabulary, graphs=self._graphs)
            return self._finder.find(logits.address, rows, scales, fixed=fixed)

    def _run(self, step: StepArrays) -> DeviceLogits:
        rows = len(step.past_sequence_lengths)
        with _on_the_gpu():
            if step.padded:
                bucket, logits = self._bucket_of(step, rows)
                bucket.inputs.load(step)
            else:
                bucket = self._eager
                logits = self._eager_logits.at_least(step.logits.nbytes)
                self._bind(bucket.binding, step, bucket.inputs.load(step), logits)
            self._session.run_with_iobinding(bucket.binding, bucket.options)
        return DeviceLogits(self, logits, step)

    def _bucket_of(self, step: StepArrays, rows: int) -> tuple[_Bucket, DeviceMemory]:
        """The step's bucket, made where it is the first of its shape, and its logits' place."""
        if rows not in self._logits:
            self._logits[rows] = DeviceMemory(step.logits.nbytes)
        logits, shape = self._logits[rows], step.block_table.shape
        if shape not in self._buckets:
            options = run_options(len(self._buckets) + 1 if self._graphs else -1)
            bucket = _Bucket(_Inputs(), self._binding(), options)
            self._bind(bucket.binding, step, bucket.inputs.load(step), logits)
            self._buckets[shape] = bucket  # now that it is whole
        return self._buckets[shape], logits

    def _binding(self) -> Any:
        """An IO-binding that has the caches, each the same memory in and out."""
        binding, caches = self._session.io_binding(), self._caches
        for cache in self._graph.caches:
            address = caches.memory[cache.past].address
            place = ("cuda", 0, caches.element_type, caches.shape, address)
            binding.bind_input(cache.past, *place)
            binding.bind_output(cache.present, *place)
        return binding

    def _bind(
        self, binding: Any, step: StepArrays, places: dict[str, int], logits: DeviceMemory
    ) -> None:
        for name, address in places.items():
            array = getattr(step, name)
            binding.bind_input(name, "cuda", 0, array.dtype.type, array.shape, address)
        binding.bind_output(LOGITS, "cuda", 0, np.float32, step.logits.shape, logits.address)
        for name in self._graph.captured:  # ONNX Runtime allocates them, and copies them here
            binding.bind_output(name, "cpu")


class DeviceLogits:
    """Logits in a GPU's memory: rows that are asked for come to the host, one at a time."""

    def __init__(self, binding: DeviceBinding, memory: DeviceMemory, step: StepArrays) -> None:
        self._binding, self._memory, self._step = binding, memory, step

    def __len__(self) -> int:
        return self._step.rows

    def host(self) -> Floats:
        """A copy, in the step's buffer."""
        array = self._step.logits[: self._step.rows]
        with _on_the_gpu():
            self._memory.read(array)
        return array

    def rows(self, scales: Sequence[float | None]) -> list[LogitsRow]:
        """The rows, with the likeliest tokens of those that have a scale."""
        assert len(scales) == len(self)
        found = self._binding.likeliest(
            self._memory, len(self._step.logits), scales, fixed=self._step.padded
        )
        return [LogitsRow(self._reader(i), likeliest) for i, likeliest in enumerate(found)]

    def _reader(self, row: int) -> Callable[[], Floats]:
        def read() -> Floats:
            array: Floats = self._step.logits[row]
            with _on_the_gpu():
                self._memory.read(array, row * array.nbytes)
            return array

        return read
