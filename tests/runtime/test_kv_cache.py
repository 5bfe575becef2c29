"""Caches: aligned memory that ONNX Runtime shares, and as much as makes sense."""

from __future__ import annotations

import numpy as np
import pytest

from ferrum.runtime import kv_cache
from ferrum.runtime.artifact import ArtifactError, Model
from ferrum.runtime.kv_cache import KvCaches, bytes_per_token, default_capacity
from ferrum.runtime.settings import Settings

MODEL = Model(architecture="x", name="x", layers=3, kv_heads=2, head_dim=8, experts=1,
              vocabulary=10, context_length=1000)  # fmt: skip


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_caches_share_aligned_memory_with_onnxruntime(dtype: str, width: int) -> None:
    caches = KvCaches(["a", "b"], MODEL, dtype, 5, 4)
    assert caches.nbytes == 2 * 5 * 4 * 2 * 8 * width
    for name, array in caches.arrays.items():
        assert array.shape == (5, 4, 2, 8)
        assert array.ctypes.data % 64 == 0
        assert caches.values[name].data_ptr() == array.ctypes.data
        assert not np.any(array)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_block_s_bytes_can_be_read_and_put_elsewhere(dtype: str) -> None:
    caches = KvCaches(["a", "b"], MODEL, dtype, 5, 4)
    random = np.random.default_rng(1)
    for array in caches.arrays.values():
        array.view(np.uint8)[...] = random.integers(0, 256, array.view(np.uint8).shape)
    before = {name: array.copy() for name, array in caches.arrays.items()}
    content = caches.read(3)
    assert content.shape == (caches.block_bytes,) == (caches.nbytes // 5,)
    caches.write(1, content)
    for name, array in caches.arrays.items():
        np.testing.assert_array_equal(array[1].view(np.uint8), before[name][3].view(np.uint8))
        for other in (0, 2, 3, 4):
            np.testing.assert_array_equal(
                array[other].view(np.uint8), before[name][other].view(np.uint8)
            )


def test_a_token_takes_keys_and_values_in_every_layer() -> None:
    assert bytes_per_token(MODEL, "float16") == 2 * 3 * 2 * 8 * 2


def test_by_default_every_sequence_has_a_context_if_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(max_sequences=4)
    monkeypatch.setattr(kv_cache, "free_memory", lambda: 1 << 40)
    assert default_capacity(MODEL, "float16", settings) == 4000
    monkeypatch.setattr(kv_cache, "free_memory", lambda: 4 * 192 * 777)
    assert default_capacity(MODEL, "float16", settings) == 777
    monkeypatch.setattr(kv_cache, "free_memory", lambda: 0)
    assert default_capacity(MODEL, "float16", settings) == settings.block_size


def test_memory_that_cannot_be_had_is_one_clear_line() -> None:
    with pytest.raises(ArtifactError, match="cannot be had -> a smaller kv_capacity"):
        KvCaches(["a"], MODEL, "float32", 1 << 50, 32)
