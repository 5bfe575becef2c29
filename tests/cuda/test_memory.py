"""The GPU's memory: what is written is read again, and caches take what there is."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest

from ferrum.runtime import kv_cache
from ferrum.runtime.artifact import Model
from ferrum.runtime.cudart import CudaError, cuda_runtime
from ferrum.runtime.device_memory import DeviceMemory, GrowingMemory
from ferrum.runtime.kv_cache import (
    DeviceKvCaches,
    bytes_per_token,
    default_device_capacity,
)
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.settings import Settings

MODEL = Model(architecture="x", name="x", layers=3, kv_heads=2, head_dim=8, experts=1,
              vocabulary=10, context_length=1000)  # fmt: skip


def test_what_is_written_is_read() -> None:
    memory = DeviceMemory(40)
    memory.write(np.zeros(10, np.int32))
    written = np.arange(6, dtype=np.int32)
    memory.write(written, 16)
    whole = np.ones(10, np.int32)
    memory.read(whole)
    assert whole.tolist() == [0, 0, 0, 0, *range(6)]


def test_memory_moves_only_to_grow() -> None:
    memory = GrowingMemory()
    first = memory.at_least(100)
    assert memory.at_least(128) is first
    assert memory.at_least(129).size == 256


def test_what_cannot_be_had_is_an_error() -> None:
    with pytest.raises(CudaError, match=r"^\[cuda\] cudaMalloc: .* \(2\)$"):
        DeviceMemory(1 << 60)


def test_the_gpu_is_known() -> None:
    gpu = cuda_runtime().gpu()
    assert (cuda_runtime().devices(), gpu.capability, gpu.memory_bytes) == (1, "9.0", 8 << 30)


def test_a_block_s_bytes_can_be_read_and_put_elsewhere() -> None:
    caches = DeviceKvCaches(["a", "b"], MODEL, "bfloat16", 5, 4)
    for i in range(5):
        caches.write(i, np.full(caches.block_bytes, i, np.uint8))
    content = np.arange(caches.block_bytes, dtype=np.uint8)
    caches.write(3, content)
    assert caches.block_bytes == 2 * 4 * 2 * 8 * 2
    assert caches.read(3).tolist() == content.tolist()
    caches.write(1, caches.read(3))
    assert [caches.read(i)[-1] for i in range(5)] == [0, content[-1], 2, content[-1], 4]


def test_caches_take_contexts_or_what_the_gpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(max_sequences=4, device="cuda")
    assert default_device_capacity(MODEL, "float16", settings) == 4000

    class Runtime:
        free = (1 << 30) + 1000 * bytes_per_token(MODEL, "float16")

        def free_memory(self) -> int:
            return self.free

    monkeypatch.setattr(kv_cache, "cuda_runtime", Runtime)
    assert default_device_capacity(MODEL, "float16", settings) == 800
    monkeypatch.setattr(Runtime, "free", 0)
    assert default_device_capacity(MODEL, "float16", settings) == settings.block_size


def test_a_model_that_is_closed_gives_all_back(exported: Path) -> None:
    with LLM(exported, device="cuda", threads=1, kv_capacity=256) as llm:
        llm.generate(["import os"], SamplingParams(max_tokens=4, ignore_eos=True))
        session = llm.session
        parts = [session.caches, session._binding, llm._graph.session]
        held = [weakref.ref(part) for part in parts]
        del parts
    assert [ref() for ref in held] == [None] * 3
    with pytest.raises(RuntimeError, match=r"^\[session\] is closed$"):
        session.prepare()
