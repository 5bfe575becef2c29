"""The likeliest tokens of logits that lie in a GPU's memory: some hundred bytes of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ferrum.runtime.cuda import cuda_session, run_options
from ferrum.runtime.device_memory import DeviceMemory
from ferrum.runtime.likeliest import MOST, Likeliest
from ferrum.runtime.likeliest_model import FOUND, LOGITS, SCALES, likeliest_model


@dataclass
class _Shape:
    """What runs of so many rows use."""

    binding: Any
    options: Any
    scales: DeviceMemory
    found: DeviceMemory
    host: npt.NDArray[np.float32]  # [rows, 2 * count + 1]
    scaled: list[float | None] = field(default_factory=list)  # what is in `scales`


class LikeliestFinder:
    """Runs the graph of `likeliest_model`, captured where the logits' place does not change."""

    def __init__(self, vocabulary: int, *, graphs: bool) -> None:
        self._vocabulary, self._count = vocabulary, min(MOST, vocabulary)
        self._graphs = graphs
        options = ort.SessionOptions()
        options.log_severity_level = 4  # errors are raised
        model = likeliest_model(vocabulary, self._count)
        self._session = cuda_session(model, options, graphs=graphs)
        self._shapes: dict[tuple[int, int, bool], _Shape] = {}

    def find(
        self, logits: int, rows: int, scales: Sequence[float | None], *, fixed: bool
    ) -> list[Likeliest | None]:
        """Of float32[rows, vocabulary] at the address `logits`, the first len(scales) rows.

        None for a row without a scale, and where logits are no numbers. `fixed`: logits of so
        many rows always lie there.
        """
        key = (rows, logits, fixed)
        if key not in self._shapes:
            self._shapes[key] = self._shape(rows, logits, fixed=fixed)
        shape = self._shapes[key]
        wanted = [*scales, *[None] * (rows - len(scales))]
        if wanted != shape.scaled:
            shape.scales.write(np.array([s or 1.0 for s in wanted], np.float32))
            shape.scaled = wanted
        self._session.run_with_iobinding(shape.binding, shape.options)
        shape.found.read(shape.host)
        return [
            None if scale is None else self._likeliest(row, np.float32(scale))
            for row, scale in zip(shape.host, scales, strict=False)
        ]

    def _shape(self, rows: int, logits: int, *, fixed: bool) -> _Shape:
        width = 2 * self._count + 1
        scales, found = DeviceMemory(4 * rows), DeviceMemory(4 * rows * width)
        binding = self._session.io_binding()
        device = ("cuda", 0, np.float32)
        binding.bind_input(LOGITS, *device, [rows, self._vocabulary], logits)
        binding.bind_input(SCALES, *device, [rows, 1], scales.address)
        binding.bind_output(FOUND, *device, [rows, width], found.address)
        # The number of rows is as good an id as any: a capture for each.
        options = run_options(rows if fixed and self._graphs else -1)
        return _Shape(binding, options, scales, found, np.empty((rows, width), np.float32))

    def _likeliest(self, row: npt.NDArray[np.float32], scale: np.float32) -> Likeliest | None:
        values, ids = row[: self._count], row[self._count : -1]
        return Likeliest.of(values, ids, float(row[-1]), scale, self._vocabulary)
