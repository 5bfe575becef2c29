"""Exports of the shared sample models, and their logits through plain ONNX Runtime."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.layout import Layout
from ferrum.custom_ops.library import register

TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "MXFP4", "Q3_K_M", "Q2_K")
BLOCK_SIZE, BLOCKS = 16, 32
_CACHE_TYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32}


class Exports:
    """Builds each model once per test session; `shared` is the folder of the GGUFs."""

    def __init__(self, shared: Path, folder: Path) -> None:
        self._shared, self._folder = shared, folder
        self.reference: dict[str, Any] = json.loads((shared / "reference.json").read_text())
        self.truth = dict(np.load(shared / "truth_logits.npz"))
        self.dequantized = dict(np.load(shared / "dequantized_logits.npz"))

    def path(
        self,
        name: str,
        kv_dtype: str = "float16",
        layout: Layout = "file",
        dtype: str = "float32",
    ) -> Path:
        """The .onnx of tinycode-`name`.gguf: its caches, its weights' layout, its activations."""
        out = self._folder / f"{name}-{kv_dtype}-{layout}-{dtype}" / "model.onnx"
        if not out.exists():
            source = self._folder / f"tinycode-{name}.gguf"
            if not source.exists():
                # The shared folder may be read-only or another file system: link from a copy.
                shutil.copyfile(self._shared / source.name, source)
                os.chmod(source, 0o644)
            build(source, out, BuildOptions(kv_dtype=kv_dtype, layout=layout, dtype=dtype))
        return out


class Model:
    """One session over one export, with caches of its own."""

    def __init__(self, path: Path, *, library: bool = True, **settings: Any) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        disabled = []
        if library:
            register(options, **settings)
        else:
            disabled = ["ConstantFolding"]  # keeps the weights packed
        self.session = ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
        self._caches = {
            i.name: np.zeros([BLOCKS, BLOCK_SIZE, *i.shape[2:]], _CACHE_TYPES[i.type])
            for i in self.session.get_inputs()
            if i.name.startswith("past_key_values.")
        }

    def step(self, tokens: Any, bounds: Any, past: Any, table: Any) -> np.ndarray:
        """Logits float32[B, vocab] of one step; the caches advance."""
        feeds = {
            "input_ids": np.asarray(tokens, np.int64),
            "cumulative_sequence_lengths": np.asarray(bounds, np.int32),
            "past_sequence_lengths": np.asarray(past, np.int32),
            "block_table": np.asarray(table, np.int32),
            **self._caches,
        }
        names = [o.name for o in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, feeds), strict=True))
        for name in self._caches:
            self._caches[name] = found[name.replace("past_key_values", "present")]
        return found["logits"]

    def all_logits(self, tokens: Any) -> np.ndarray:
        """float32[T, vocab]: a prompt as T one-token sequences that share a block-table row."""
        count = len(tokens)
        table = np.tile(np.arange(BLOCKS), (count, 1))
        return self.step(tokens, np.arange(count + 1), np.arange(count), table)

    def greedy(self, prompt: list[int], count: int) -> tuple[list[int], list[np.ndarray]]:
        """The `count` most likely tokens after `prompt`, and the logits they were taken from."""
        tokens, rows, past, fed = [], [], 0, list(prompt)
        for _ in range(count):
            rows.append(self.step(fed, [0, len(fed)], [past], [np.arange(BLOCKS)])[0])
            past += len(fed)
            tokens.append(int(rows[-1].argmax()))
            fed = [tokens[-1]]
        return tokens, rows


def divergence(truth: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL(truth || other) in nats, per position; logits float32[positions, vocab]."""
    p, q = _log_softmax(truth), _log_softmax(other)
    return (np.exp(p) * (p - q)).sum(-1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))
