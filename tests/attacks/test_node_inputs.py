"""Whatever a caller feeds a node: an answer, or an error that names the node. Never more.

Run under sanitizers (tests/tools/sanitize.sh), where a read or write outside a buffer is fatal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_node import session
from oracle import quantized

Q8_0, Q4_K = 8, 12
Feeds = dict[str, np.ndarray]
EXTREMES = [0, 1, -1, 2, 3, 7, 2**31 - 1, -(2**31)]


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def expert_layer() -> Feeds:
    matrix = quantized(Q8_0, (4, 32, 32))[0]
    return {
        "x": floats(3, 32),
        "weights": floats(3, 2),
        "experts": np.array([[0, 3], [1, 2], [3, 0]], np.int32),
        "gate": matrix,
        "up": matrix,
        "down": matrix,
    }


def attention_layer() -> Feeds:
    return {
        "q": floats(5, 32),
        "k": floats(5, 16),
        "v": floats(5, 16),
        "key_cache": floats(4, 3, 2, 8),
        "value_cache": floats(4, 3, 2, 8),
        "block_table": np.array([[2, 0], [3, 1]], np.int32),
        "cumulative_sequence_lengths": np.array([0, 4, 5], np.int32),
        "past_sequence_lengths": np.array([1, 2], np.int32),
        "q_norm": floats(8),
        "k_norm": floats(8),
        "inv_freq": floats(4),
    }


NODES: dict[str, tuple[Feeds, dict[str, Any]]] = {
    "QuantGather": (
        {"ids": np.array([1, 0], np.int64), "weight": quantized(Q4_K, (3, 256))[0]},
        {"type": Q4_K},
    ),
    "QuantMatMul": (
        {"x": floats(2, 256), "weight": quantized(Q4_K, (3, 256))[0]},
        {"type": Q4_K},
    ),
    "QuantQKV": (
        {"x": floats(2, 32), **{n: quantized(Q8_0, (4, 32))[0] for n in ("wq", "wk", "wv")}},
        dict.fromkeys(("q_type", "k_type", "v_type"), Q8_0),
    ),
    "RMSNorm": ({"x": floats(2, 8), "weight": floats(8)}, {"epsilon": 1e-6}),
    "AddRMSNorm": (
        {"x": floats(2, 8), "residual": floats(2, 8), "weight": floats(8)},
        {"epsilon": 1e-6},
    ),
    "RouteTopK": ({"logits": floats(3, 6)}, {"k": 2, "normalize": 1, "scale": 1.0}),
    "QuantMoE": (expert_layer(), dict.fromkeys(("gate_type", "up_type", "down_type"), Q8_0)),
    "HostQuantMoE": (expert_layer(), dict.fromkeys(("gate_type", "up_type", "down_type"), Q8_0)),
    "PagedAttention": (
        attention_layer(),
        {"num_heads": 4, "kv_num_heads": 2, "scale": 0.3, "epsilon": 1e-6, "rope_scale": 1.0},
    ),
}


@st.composite
def shapes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with a dimension changed, dropped or added."""
    changed = list(shape)
    at = draw(st.integers(0, len(shape) - 1))
    change = draw(st.sampled_from(["size", "drop", "add"]))
    if change == "size":
        near = [0, 1, shape[at] - 1, shape[at] + 1, shape[at] * 2, shape[at] // 2]
        changed[at] = max(draw(st.sampled_from(near)), 0)
    elif change == "drop":
        del changed[at]
    else:
        changed.insert(at, draw(st.sampled_from([0, 1, 2])))
    return tuple(changed)


def attacked(draw: st.DrawFn, feeds: Feeds) -> Feeds:
    """The feeds with one to three arrays misshapen or holding extreme values."""
    changed = dict(feeds)
    for name in draw(st.lists(st.sampled_from(sorted(feeds)), min_size=1, max_size=3)):
        array = changed[name]
        if array.ndim and draw(st.booleans()):
            shape = draw(shapes(array.shape))
            # An allocation of exactly that size, so that one byte too far is seen.
            changed[name] = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
        elif array.size:
            values = array.copy()
            at = draw(st.integers(0, values.size - 1))
            if values.dtype.kind == "f":
                values.flat[at] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e-45]))
            elif values.dtype == np.uint8:
                values.flat[at] = draw(st.integers(0, 255))
            else:
                values.flat[at] = draw(st.sampled_from(EXTREMES))
            changed[name] = values
    return changed


def refusal(node: ort.InferenceSession, feeds: Feeds) -> str | None:
    """What the node says against these inputs; nothing where it answers them."""
    try:
        node.run(None, feeds)
    except Exception as error:  # onnxruntime's own types are not exported
        return str(error)
    return None


@pytest.mark.parametrize("op_name", NODES)
def test_the_unchanged_inputs_run(op_name: str) -> None:
    feeds, attributes = NODES[op_name]
    session(op_name, attributes).run(None, feeds)


@pytest.mark.parametrize("op_name", NODES)
def test_misshapen_and_extreme_inputs_are_answered_or_refused(op_name: str) -> None:
    feeds, attributes = NODES[op_name]
    node = session(op_name, attributes, name="blk.5.node")

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def attack(data: st.DataObject) -> None:
        said = refusal(node, attacked(data.draw, feeds))
        assert said is None or f"[{op_name}] blk.5.node: " in said

    attack()
