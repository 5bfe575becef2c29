"""Named values from inside the graph, step by step: the graph with more outputs, and their record.

This alone in the runtime needs the onnx package, and imports it when it is asked for a trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrum.commands.report_file import new_report
from ferrum.runtime.artifact import Artifact
from ferrum.runtime.batcher import StepArrays
from ferrum.runtime.graph import Graph
from ferrum.runtime.settings import Settings

EXPERT_IDS = "blk.*.expert_ids"


class TraceError(ValueError):
    """A name that no value of the graph has; the message names those that come near."""


class Trace:
    """The values captured in each step, and which token each of their rows is of."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._values: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
        self._tokens: dict[str, list[npt.NDArray[Any]]] = {
            "step": [], "row": [], "position": [], "token": [],
        }  # fmt: skip
        self._steps = 0

    def add(self, step: StepArrays, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep one step's values."""
        lengths = np.diff(step.cumulative_sequence_lengths)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(step.input_ids.size) - step.cumulative_sequence_lengths[:-1][rows]
        self._tokens["step"].append(np.full(step.input_ids.size, self._steps))
        self._tokens["row"].append(rows)
        self._tokens["position"].append(step.past_sequence_lengths[rows] + within)
        self._tokens["token"].append(step.input_ids.copy())
        for name in self.names:
            self._values[name].append(values[name].copy())
        self._steps += 1

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Each value with the steps' rows laid end to end, and for each token (a row of most
        values) its `step`, its `row` in the step's batch, its `position` and its id `token`.

        A value that has a row per sequence, such as the last layer's output, has one row for each
        sequence of each step instead.
        """
        parts = {**self._tokens, **self._values}
        return {name: np.concatenate(arrays) for name, arrays in parts.items() if arrays}

    def save(self, file: Path) -> None:
        """Write `arrays` to an .npz."""
        with new_report(file) as out:
            np.savez(out, allow_pickle=False, **self.arrays())

    def expert_load(self, experts: int) -> npt.NDArray[np.int64]:
        """How often each expert was chosen, int64[layers, experts], if expert ids are captured."""
        layers = [name for name in self.names if fnmatchcase(name, EXPERT_IDS)]
        counts = np.zeros((len(layers), experts), np.int64)
        for row, name in zip(counts, layers, strict=True):
            for ids in self._values[name]:
                row += np.bincount(ids.ravel(), minlength=experts)
        return counts

    def clear(self) -> None:
        """Begin anew."""
        for parts in (*self._tokens.values(), *self._values.values()):
            parts.clear()
        self._steps = 0


def load_with_trace(
    artifact: Artifact, settings: Settings, patterns: Sequence[str]
) -> tuple[Graph, Trace]:
    """The export's graph with the values that match the patterns as outputs, and their record."""
    import onnx

    model = onnx.load(artifact.path, load_external_data=False)
    produced = [name for node in model.graph.node for name in node.output if name]
    own = {output.name for output in model.graph.output}
    names = _matching(patterns, [name for name in produced if name not in own])
    for name in names:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    graph = Graph.capturing(artifact, settings, model.SerializeToString(), tuple(names))
    return graph, Trace(names)


def _matching(patterns: Sequence[str], names: list[str]) -> list[str]:
    """The names that match any pattern, in the graph's order."""
    chosen: set[str] = set()
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            near = difflib.get_close_matches(pattern, names, n=4, cutoff=0.4) or names[:4]
            raise TraceError(
                f"[trace] {pattern} -> a value of the graph, such as {', '.join(near)}"
            )
        chosen.update(found)
    return [name for name in names if name in chosen]
