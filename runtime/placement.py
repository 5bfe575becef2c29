"""Where a session's caches lie and its steps run: the host's memory, or a GPU's."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ferrum.runtime.batcher import Batcher, StepArrays
from ferrum.runtime.binding import Binding
from ferrum.runtime.block_pool import BlockPool
from ferrum.runtime.decode_buckets import DecodeBuckets
from ferrum.runtime.device_binding import DeviceBinding
from ferrum.runtime.graph import Graph
from ferrum.runtime.kv_cache import (
    DeviceKvCaches,
    KvCaches,
    default_capacity,
    default_device_capacity,
)
from ferrum.runtime.logits import StepLogits
from ferrum.runtime.settings import Settings


class StepRunner(Protocol):
    """What runs the graph over its caches."""

    def run(self, step: StepArrays) -> StepLogits:
        """One step; its logits are good until the next."""

    def captured(self) -> dict[str, npt.NDArray[np.generic]]:
        """The captured outputs of the last step."""


class Caches(Protocol):
    """The memory of the blocks, of all layers together."""

    block_bytes: int

    def read(self, block: int) -> npt.NDArray[np.uint8]:
        """A copy of what a block holds: uint8[block_bytes]."""

    def write(self, block: int, content: npt.NDArray[np.uint8]) -> None:
        """Fill a block with what `read` has given."""


class Closed:
    """In the place of both when a session has been closed."""

    block_bytes = 0

    def run(self, step: StepArrays) -> StepLogits:
        raise RuntimeError("[session] is closed")

    def captured(self) -> dict[str, npt.NDArray[np.generic]]:
        raise RuntimeError("[session] is closed")

    def read(self, block: int) -> npt.NDArray[np.uint8]:
        raise RuntimeError("[session] is closed")

    def write(self, block: int, content: npt.NDArray[np.uint8]) -> None:
        raise RuntimeError("[session] is closed")


Parts = tuple[BlockPool, Caches, StepRunner, Batcher]


def on_host(graph: Graph, settings: Settings) -> Parts:
    """Caches in the host's memory."""
    model, dtype, size = graph.manifest.model, graph.manifest.graph.kv_dtype, settings.block_size
    capacity = settings.kv_capacity or default_capacity(model, dtype, settings)
    blocks = -(-capacity // size)
    names = [cache.past for cache in graph.caches]
    caches = KvCaches(names, model, dtype, blocks, size)  # it says when there are too many
    pool = BlockPool(blocks, size)
    return pool, caches, Binding(graph, caches), Batcher(model.vocabulary)


def on_device(graph: Graph, settings: Settings) -> Parts:
    """Caches in a GPU's memory, with a block more than the pool knows: rows made up write there."""
    model, dtype, size = graph.manifest.model, graph.manifest.graph.kv_dtype, settings.block_size
    capacity = settings.kv_capacity or default_device_capacity(model, dtype, settings)
    blocks = -(-capacity // size)
    names = [cache.past for cache in graph.caches]
    caches = DeviceKvCaches(names, model, dtype, blocks + 1, size)
    pool = BlockPool(blocks, size)
    graphs = graph.cuda_graphs
    most = min(pool.blocks, pool.blocks_for(model.context_length))
    buckets = DecodeBuckets(spare_block=pool.blocks, most_columns=most) if graphs else None
    binding = DeviceBinding(graph, caches, graphs=graphs)
    return pool, caches, binding, Batcher(model.vocabulary, buckets)
