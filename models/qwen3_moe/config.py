"""GGUF metadata to what the graph of a Qwen3-MoE model depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ARCHITECTURE = "qwen3moe"

# No model has dimensions beyond these; a file that says so is damaged, and believing it would
# exhaust memory before any tensor is looked at.
_LIMITS = {
    "block_count": 1024,
    "expert_count": 4096,
    "attention.head_count": 4096,
    "attention.head_count_kv": 4096,
    "attention.key_length": 4096,
    "embedding_length": 1 << 20,
    "expert_feed_forward_length": 1 << 20,
    "context_length": 1 << 30,
}


class ModelError(ValueError):
    """The file is a GGUF, but not a Qwen3-MoE model that can be exported; one line."""


@dataclass(frozen=True)
class RopeScaling:
    """How positions beyond the trained context are squeezed into it.

    `kind` is "linear" (all angles divided by `factor`) or "yarn" (Peng et al. 2023, YaRN: angles
    that turn often stay, those that turn less than once are divided, a ramp lies between).
    """

    kind: str
    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    @property
    def amplitude(self) -> float:
        """What cosines and sines are multiplied with: YaRN's attention temperature."""
        if self.kind != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


@dataclass(frozen=True)
class Qwen3MoeConfig:
    """Sizes and constants of one model; names as in DESIGN's table of ops."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    experts_per_token: int
    expert_width: int
    vocabulary: int
    context_length: int
    rope_base: float
    rope_scaling: RopeScaling | None
    rms_epsilon: float
    normalize_expert_weights: bool
    expert_weights_scale: float
    tied_embeddings: bool

    def inv_freq(self) -> npt.NDArray[np.float32]:
        """float32[head_dim / 2]: the angle per position of each pair, scaling applied."""
        half = self.head_dim // 2
        plain = self.rope_base ** (-np.arange(half, dtype=np.float64) / half)
        if self.rope_scaling is None:
            return plain.astype(np.float32)
        squeezed = plain / self.rope_scaling.factor
        if self.rope_scaling.kind == "linear":
            return squeezed.astype(np.float32)
        keep = 1.0 - self._yarn_ramp()
        return (plain * keep + squeezed * (1.0 - keep)).astype(np.float32)

    def _yarn_ramp(self) -> npt.NDArray[np.float64]:
        """0 for pairs that turn over beta_fast times in the original context, 1 below beta_slow."""
        scaling = self.rope_scaling
        assert scaling is not None

        def pair_that_turns(times: float) -> float:
            turns = scaling.original_context / (times * 2 * math.pi)
            return self.head_dim * math.log(turns) / (2 * math.log(self.rope_base))

        low = max(math.floor(pair_that_turns(scaling.beta_fast)), 0)
        high = min(math.ceil(pair_that_turns(scaling.beta_slow)), self.head_dim - 1)
        pairs = np.arange(self.head_dim // 2, dtype=np.float64)
        return np.clip((pairs - low) / max(high - low, 0.001), 0.0, 1.0)

    @property
    def rope_scale(self) -> float:
        """Amplitude of the rotation."""
        return 1.0 if self.rope_scaling is None else self.rope_scaling.amplitude

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ferrum.json."""
        return {"architecture": ARCHITECTURE, **asdict(self)}


def _shown(value: Any) -> str:
    """A metadata value on one line: arrays print on several, and files may hold long ones."""
    text = " ".join(ascii(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


class _Reader:
    """Typed access to one architecture's keys; every complaint names the key."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata

    def whole(self, key: str, default: int | None = None) -> int:
        value = self._metadata.get(f"{ARCHITECTURE}.{key}", default)
        if value is None:
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: missing -> a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {_shown(value)} -> a whole number")
        top = _LIMITS.get(key, 1 << 31)
        if not 1 <= value <= top:
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {value} -> 1 to {top}")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        value = self._metadata.get(f"{ARCHITECTURE}.{key}", default)
        if value is None:
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: missing -> a number")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {_shown(value)} -> a number")
        if not math.isfinite(value) or value <= 0:
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {value} -> a positive finite number")
        return float(value)

    def given(self, key: str) -> Any:
        return self._metadata.get(f"{ARCHITECTURE}.{key}")


def read_config(
    metadata: Mapping[str, Any], vocabulary: int, tied_embeddings: bool
) -> Qwen3MoeConfig:
    """The config that a GGUF's metadata describe; ModelError names the key that is wrong.

    `vocabulary` is the embedding's row count and `tied_embeddings` whether `output.weight` is
    missing: the two facts that only the tensors know.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture != ARCHITECTURE:
        raise ModelError(f"general.architecture: {_shown(architecture)} -> {ARCHITECTURE!r}")
    reader = _Reader(metadata)
    hidden, heads = reader.whole("embedding_length"), reader.whole("attention.head_count")
    head_dim = reader.whole("attention.key_length", max(hidden // heads, 1))
    config = Qwen3MoeConfig(
        name=str(metadata.get("general.name", "")),
        layers=reader.whole("block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=reader.whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        experts=reader.whole("expert_count"),
        experts_per_token=reader.whole("expert_used_count"),
        expert_width=reader.whole("expert_feed_forward_length"),
        vocabulary=vocabulary,
        context_length=reader.whole("context_length"),
        rope_base=reader.real("rope.freq_base", 10000.0),
        rope_scaling=_rope_scaling(reader),
        rms_epsilon=reader.real("attention.layer_norm_rms_epsilon"),
        normalize_expert_weights=_normalize(reader),
        expert_weights_scale=_weights_scale(reader),
        tied_embeddings=tied_embeddings,
    )
    _check(config, reader)
    return config


def _check(config: Qwen3MoeConfig, reader: _Reader) -> None:
    value_length = reader.whole("attention.value_length", config.head_dim)
    rotated = reader.whole("rope.dimension_count", config.head_dim)
    rules = (
        (config.head_dim % 2 == 0, "attention.key_length", config.head_dim, "an even number"),
        (value_length == config.head_dim, "attention.value_length", value_length,
         f"{config.head_dim}, as attention.key_length"),
        (rotated == config.head_dim, "rope.dimension_count", rotated,
         f"{config.head_dim}, as attention.key_length"),
        (config.heads % config.kv_heads == 0, "attention.head_count", config.heads,
         f"a multiple of attention.head_count_kv {config.kv_heads}"),
        (config.experts_per_token <= config.experts, "expert_used_count",
         config.experts_per_token, f"at most expert_count {config.experts}"),
        (config.rope_base > 1, "rope.freq_base", config.rope_base, "more than 1"),
    )  # fmt: skip
    for holds, key, got, wanted in rules:
        if not holds:
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {got} -> {wanted}")


def _normalize(reader: _Reader) -> bool:
    # Qwen3-MoE normalizes (norm_topk_prob); converters write the key only where it is unusual.
    value = reader.given("expert_weights_norm")
    if value is None:
        return True
    if not isinstance(value, bool):
        raise ModelError(
            f"metadata {ARCHITECTURE}.expert_weights_norm: {_shown(value)} -> true or false"
        )
    return value


def _weights_scale(reader: _Reader) -> float:
    value = reader.given("expert_weights_scale")
    # Converters write 0 for "not scaled".
    if value is None or (isinstance(value, (int, float)) and value == 0):
        return 1.0
    return reader.real("expert_weights_scale")


def _rope_scaling(reader: _Reader) -> RopeScaling | None:
    kind = reader.given("rope.scaling.type")
    if kind is None and reader.given("rope.scale_linear") is not None:
        return RopeScaling(
            "linear", reader.real("rope.scale_linear"), reader.whole("context_length")
        )
    if kind is not None and (not isinstance(kind, str) or kind not in ("none", "linear", "yarn")):
        raise ModelError(
            f"metadata {ARCHITECTURE}.rope.scaling.type: {_shown(kind)} -> none, linear or yarn"
        )
    if kind in (None, "none"):
        return None
    factor = reader.real("rope.scaling.factor")
    trained = reader.whole(
        "rope.scaling.original_context_length",
        max(int(reader.whole("context_length") / factor), 1),
    )
    attention = reader.given("rope.scaling.attn_factor")
    return RopeScaling(
        kind,
        factor,
        trained,
        beta_fast=reader.real("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=reader.real("rope.scaling.yarn_beta_slow", 1.0),
        attention_factor=None if attention is None else reader.real("rope.scaling.attn_factor"),
    )
