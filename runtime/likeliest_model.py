"""A small graph that finds each row's likeliest tokens where its logits lie, and their total.

Standard ops alone, and of these only ones whose CUDA kernels need no cuDNN (ArgMax, ReduceMax and
ReduceLogSumExp do). It imports the onnx package when a graph is asked for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LOGITS, SCALES, FOUND = "logits", "scales", "found"
_OPSET, _IR_VERSION = 18, 10
_EXACT_IDS = 1 << 24  # whole numbers below this are exact in float32


def likeliest_model(vocabulary: int, count: int) -> bytes:
    """The graph's bytes.

    logits float32[rows, vocabulary] and scales float32[rows, 1] to found
    float32[rows, 2 * count + 1]: the largest logits in falling order, their tokens, and
    sum(exp((logit - largest) * scale)). All in one tensor, since every copy to the host is a wait.
    """
    if not count <= vocabulary <= _EXACT_IDS:
        raise ValueError(f"[likeliest] vocabulary {vocabulary} -> {count} to {_EXACT_IDS}")
    graph = _Graph()
    graph.constant("count", [count])
    groups = 1 if vocabulary < 16 * count else _groups(vocabulary, count)
    if groups == 1:
        graph("TopK", [LOGITS, "count"], ["values", "ids"])
    else:
        _in_two_rounds(graph, vocabulary, count, groups)
    graph.constant("first", [0])
    graph.constant("one", [1])
    graph("Slice", ["values", "first", "one", "one"], ["best"])
    graph("Sub", [LOGITS, "best"], ["below"])
    graph("Mul", ["below", SCALES], ["scaled"])
    graph("Exp", ["scaled"], ["weights"])
    graph("ReduceSum", ["weights", "one"], ["total"])
    graph("Cast", ["ids"], ["tokens"], to=1)  # float32
    graph("Concat", ["values", "tokens", "total"], [FOUND], axis=1)
    return graph.model(vocabulary, 2 * count + 1)


def _groups(vocabulary: int, count: int) -> int:
    """A power of two with which both rounds sort about as many values at a time."""
    return 1 << round(math.log2(math.sqrt(vocabulary / count)))


def _in_two_rounds(graph: _Graph, vocabulary: int, count: int, groups: int) -> None:
    """Many blocks of threads first sort a group each: one alone would take the step's time."""
    size = max(count, -(-vocabulary // groups))
    padded = LOGITS
    if size * groups > vocabulary:
        graph.constant("padding", [0, 0, 0, size * groups - vocabulary])
        graph.constant("nothing", -np.inf, np.float32)
        graph("Pad", [LOGITS, "padding", "nothing"], ["padded"])
        padded = "padded"
    graph.constant("a_group", [-1, size])
    graph.constant("a_row", [-1, groups * count])
    graph.constant("size", size)
    graph("Reshape", [padded, "a_group"], ["by_group"])
    graph("TopK", ["by_group", "count"], ["group_values", "group_ids"])
    graph("Reshape", ["group_values", "a_row"], ["row_values"])
    graph("Reshape", ["group_ids", "a_row"], ["row_ids"])
    graph("TopK", ["row_values", "count"], ["values", "places"])
    graph("GatherElements", ["row_ids", "places"], ["within"], axis=1)
    graph("Div", ["places", "count"], ["group"])
    graph("Mul", ["group", "size"], ["start"])
    graph("Add", ["start", "within"], ["ids"])


class _Graph:
    """Nodes and constants."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def __call__(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node(op, inputs, outputs, outputs[0], **attributes))

    def constant(self, name: str, value: Any, dtype: type[np.generic] = np.int64) -> None:
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))

    def model(self, vocabulary: int, width: int) -> bytes:
        from onnx import TensorProto, helper

        port, kind = helper.make_tensor_value_info, TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "likeliest",
            [port(LOGITS, kind, ["rows", vocabulary]), port(SCALES, kind, ["rows", 1])],
            [port(FOUND, kind, ["rows", width])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opsets)
        result: bytes = model.SerializeToString()
        return result
