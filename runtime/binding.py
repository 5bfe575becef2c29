"""One step of the graph over IO-binding: caches bound once, the rest only where it changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ferrum.runtime.batcher import StepArrays
from ferrum.runtime.graph import INPUTS, LOGITS, Graph, one_line
from ferrum.runtime.kv_cache import KvCaches
from ferrum.runtime.logits import HostLogits


class GraphError(RuntimeError):
    """The graph failed in a step; what it had written of that step counts for nothing."""


class Binding:
    """Runs a graph's steps over its caches."""

    def __init__(self, graph: Graph, caches: KvCaches) -> None:
        self._session, self._captured = graph.session, graph.captured
        self._binding = graph.session.io_binding()
        self._bound: dict[str, tuple[Any, ort.OrtValue]] = {}
        # ONNX Runtime holds neither the caches' memory nor, before 1.31, the values.
        self._caches = caches
        for cache in graph.caches:
            # The same value in and out: the graph writes in place, nothing is copied.
            value = caches.values[cache.past]
            self._binding.bind_ortvalue_input(cache.past, value)
            self._binding.bind_ortvalue_output(cache.present, value)

    def run(self, step: StepArrays) -> HostLogits:
        """One step; the result is step.logits. GraphError with the graph's own sentence."""
        for name in INPUTS:
            self._bind(name, getattr(step, name), self._binding.bind_ortvalue_input)
        self._bind(LOGITS, step.logits, self._binding.bind_ortvalue_output)
        for name in self._captured:  # their shapes change, so ONNX Runtime allocates them
            self._binding.bind_output(name, "cpu")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            raise GraphError(f"[graph] {one_line(error)}") from error
        return HostLogits(step.logits)

    def captured(self) -> dict[str, npt.NDArray[np.generic]]:
        """The captured outputs of the last step."""
        if not self._captured:
            return {}
        # ONNX Runtime lists outputs in the order in which they were first bound.
        last = self._binding.get_outputs()[-len(self._captured) :]
        return {name: value.numpy() for name, value in zip(self._captured, last, strict=True)}

    def _bind(self, name: str, array: npt.NDArray[Any], bind: Any) -> None:
        # The value stands for memory, not for content: it stays good while address and shape do.
        place = (array.__array_interface__["data"][0], array.shape)
        if name not in self._bound or self._bound[name][0] != place:
            value = ort.OrtValue.ortvalue_from_numpy(array)
            bind(name, value)
            self._bound[name] = (place, value)
