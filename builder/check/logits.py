"""A short prompt through the whole export: finite logits, the same bits every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ferrum.builder.check.export import Export
from ferrum.builder.check.finding import Finding, judged
from ferrum.builder.check.placement import session

Floats = npt.NDArray[np.float32]
_BLOCK_SIZE = 16
_MOST_TOKENS = 12


def logits(export: Export, *, seed: int) -> Finding:
    """Twice in one piece, then in two chunks beside another sequence: one set of bits."""
    rng = np.random.default_rng(seed)
    count = min(_MOST_TOKENS, export.config.context_length)
    tokens = rng.integers(0, export.config.vocabulary, count).tolist()
    other = rng.integers(0, export.config.vocabulary, max(count // 2, 1)).tolist()
    model = session(export)
    once, again = (Steps(model, export).step([(0, tokens)])[0] for _ in range(2))
    problems = []
    if not np.isfinite(once).all():
        problems.append(f"{np.count_nonzero(~np.isfinite(once))} of {once.size} are not finite")
    elif np.ptp(once) == 0:
        problems.append("all logits are equal")
    if once.tobytes() != again.tobytes():
        problems.append(f"a second run differs by up to {_distance(once, again):g}")
    if count > 1:
        cut, steps = count // 2, Steps(model, export)
        steps.step([(0, tokens[:cut])])
        mixed = steps.step([(1, other), (0, tokens[cut:])])[1]
        if once.tobytes() != mixed.tobytes():
            problems.append(
                f"in two chunks beside another sequence they differ by up to "
                f"{_distance(once, mixed):g}"
            )
    return judged(
        problems,
        f"{count} tokens drawn with seed {seed}: finite, {once.min():.4g} to {once.max():.4g}, the "
        "same bits twice and in two chunks beside another sequence",
    )


class Steps:
    """Two sequences over caches of their own."""

    def __init__(self, model: ort.InferenceSession, export: Export) -> None:
        self._model, self._past = model, [0, 0]
        kind = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
        dtype = kind[export.kv_dtype]
        self._caches = {
            value.name: _value(np.zeros([2, _BLOCK_SIZE, *value.shape[2:]], dtype), export.kv_dtype)
            for value in model.get_inputs()
            if value.name.startswith("past_key_values.")
        }

    def step(self, parts: list[tuple[int, list[int]]]) -> Floats:
        """Logits float32[parts, vocabulary] after the next tokens of those sequences."""
        binding = self._model.io_binding()
        lengths = [len(tokens) for _, tokens in parts]
        rows: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.array([t for _, tokens in parts for t in tokens], np.int64),
            "cumulative_sequence_lengths": np.cumsum([0, *lengths]).astype(np.int32),
            "past_sequence_lengths": np.array([self._past[s] for s, _ in parts], np.int32),
            "block_table": np.array([[s] for s, _ in parts], np.int32),
        }
        for name, array in rows.items():
            binding.bind_cpu_input(name, array)
        for name, cache in self._caches.items():
            binding.bind_ortvalue_input(name, cache)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), cache)
        binding.bind_output("logits")
        self._model.run_with_iobinding(binding)
        for (sequence, _), length in zip(parts, lengths, strict=True):
            self._past[sequence] += length
        found: Floats = binding.get_outputs()[-1].numpy()
        return found


def _value(array: npt.NDArray[Any], kind: str) -> ort.OrtValue:
    if kind == "bfloat16":
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, 16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def _distance(one: Floats, other: Floats) -> float:
    return float(np.abs(one.astype(np.float64) - other).max())
