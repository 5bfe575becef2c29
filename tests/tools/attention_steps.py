"""Attention layers, their caches and steps, for the tests of PagedAttention."""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import native_node
import numpy as np
import onnx
import onnxruntime as ort
from oracle import attention

Session = ort.InferenceSession
CACHES: dict[str, tuple[Any, int]] = {
    "float32": (np.float32, onnx.TensorProto.FLOAT),
    "float16": (np.float16, onnx.TensorProto.FLOAT16),
    "bfloat16": (ml_dtypes.bfloat16, onnx.TensorProto.BFLOAT16),
}


class Layer:
    """Weights and sizes of one attention layer, and tokens to put through it."""

    def __init__(
        self,
        heads: int = 4,
        kv_heads: int = 2,
        dim: int = 16,
        cache: str = "float32",
        rope_scale: float = 1.0,
        theta: float = 1e4,
    ) -> None:
        rng = np.random.default_rng(dim)
        self.heads, self.kv_heads, self.dim, self.cache = heads, kv_heads, dim, cache
        self.attributes = {
            "num_heads": heads,
            "kv_num_heads": kv_heads,
            "scale": dim**-0.5,
            "epsilon": 1e-6,
            "rope_scale": rope_scale,
        }
        self.weights = {
            "q_norm": rng.uniform(0.5, 1.5, dim).astype(np.float32),
            "k_norm": rng.uniform(0.5, 1.5, dim).astype(np.float32),
            "inv_freq": (theta ** (-np.arange(dim // 2) * 2 / dim)).astype(np.float32),
        }

    def tokens(self, count: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random q, k and v of that many tokens."""
        rng = np.random.default_rng([seed, 5])
        widths = {"q": self.heads, "k": self.kv_heads, "v": self.kv_heads}
        return {
            name: rng.standard_normal((count, heads * self.dim)).astype(np.float32)
            for name, heads in widths.items()
        }

    def empty_caches(self, blocks: int, block_size: int) -> dict[str, np.ndarray]:
        """Caches full of what must never be read: not a number."""
        shape = (blocks, block_size, self.kv_heads, self.dim)
        dtype = CACHES[self.cache][0]
        return {name: np.full(shape, np.nan, dtype) for name in ("key_cache", "value_cache")}

    def node(self, open_session: Any = native_node.session, **settings: Any) -> Session:
        """A session of the node, by native_node's or cuda_node's function."""
        return open_session(
            "PagedAttention", self.attributes, cache=CACHES[self.cache][1], **settings
        )

    def oracle(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return attention(feeds, **self.attributes)


def step(
    layer: Layer,
    tokens: dict[str, np.ndarray],
    caches: dict[str, np.ndarray],
    table: list[list[int]],
    lengths: list[int],
    past: list[int],
) -> dict[str, np.ndarray]:
    """Feeds of one step over sequences of those lengths."""
    return {
        **tokens,
        **caches,
        "block_table": np.array(table, np.int32).reshape(
            len(lengths), len(table[0]) if table else 0
        ),
        "cumulative_sequence_lengths": np.cumsum([0, *lengths]).astype(np.int32),
        "past_sequence_lengths": np.array(past, np.int32),
        **layer.weights,
    }


def run_step(node: Session, feeds: dict[str, np.ndarray], in_place: bool) -> list[np.ndarray]:
    """One run through IO-binding; in place binds a cache as input and output alike.

    numpy has no bfloat16 that onnxruntime takes, so caches go in and come out as their bits.
    """
    binding = node.io_binding()
    kept = {}
    for name, array in feeds.items():
        if array.dtype == ml_dtypes.bfloat16:
            bits, element = array.view(np.uint16), onnx.TensorProto.BFLOAT16
            kept[name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, element)
        else:
            kept[name] = ort.OrtValue.ortvalue_from_numpy(array)
        binding.bind_ortvalue_input(name, kept[name])
    if in_place:
        binding.bind_ortvalue_output("key_cache_out", kept["key_cache"])
        binding.bind_ortvalue_output("value_cache_out", kept["value_cache"])
        binding.bind_output("output", "cpu")
        node.run_with_iobinding(binding)
        # Outputs come back in the order they were bound.
        ordered = [binding.get_outputs()[2], kept["key_cache"], kept["value_cache"]]
    else:
        for name in ("output", "key_cache_out", "value_cache_out"):
            binding.bind_output(name, "cpu")
        node.run_with_iobinding(binding)
        ordered = binding.get_outputs()
    return [_to_numpy(value, feeds["key_cache"].dtype) for value in ordered]


def _to_numpy(value: ort.OrtValue, cache_type: np.dtype[Any]) -> np.ndarray:
    if value.data_type() != "tensor(bfloat16)":
        return value.numpy().copy()
    count = int(np.prod(value.shape()))
    raw = (ctypes.c_uint16 * count).from_address(value.data_ptr())
    return np.array(raw, np.uint16).view(cache_type).reshape(value.shape())


def three_sequences(layer: Layer) -> dict[str, np.ndarray]:
    """A prefill, a chunk after 5 tokens, and a decode after 9, over blocks of 4 slots."""
    caches = layer.empty_caches(12, 4)
    rng = np.random.default_rng(3)
    # Sequence 1 has blocks 7, 2, ...; sequence 2 has blocks 9, 0, 4: neither in order.
    for block, slots in ((7, 4), (2, 1), (9, 4), (0, 4), (4, 1)):
        for cache in caches.values():
            cache[block, :slots] = rng.standard_normal((slots, layer.kv_heads, layer.dim))
    return step(
        layer,
        layer.tokens(7 + 3 + 1),
        caches,
        [[5, 11, -1], [7, 2, -1], [9, 0, 4]],
        [7, 3, 1],
        [0, 5, 9],
    )


def tolerance(cache: str) -> float:
    """One rounding of the cache's type on values of a few units; float32 by its sums."""
    return {"float32": 2e-5, "float16": 3e-3, "bfloat16": 3e-2}[cache]


def check(found: list[np.ndarray], wanted: list[np.ndarray], atol: float) -> None:
    """Output and caches. The bound grows with the value, as the steps of the caches' types do."""
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(
            ours.astype(np.float32), theirs.astype(np.float32), atol=atol, rtol=atol / 4
        )


def random_step(
    layer: Layer, sequences: list[tuple[int, int]], block_size: int
) -> dict[str, np.ndarray]:
    """A step of sequences (tokens, past) over blocks in no order, their pasts filled."""
    lengths, past = [s[0] for s in sequences], [s[1] for s in sequences]
    needed = [-(-(a + b) // block_size) for a, b in sequences]
    ids = np.random.default_rng(1).permutation(sum(needed) + 2)
    table = np.full((len(sequences), max(needed, default=0) + 1), -1)
    caches = layer.empty_caches(len(ids), block_size)
    rng = np.random.default_rng(2)
    for row, count in enumerate(needed):
        table[row, :count], ids = ids[:count], ids[count:]
        for position in range(past[row]):
            at = table[row, position // block_size], position % block_size
            for array in caches.values():
                array[at] = rng.standard_normal((layer.kv_heads, layer.dim))
    return step(layer, layer.tokens(sum(lengths)), caches, table.tolist(), lengths, past)
