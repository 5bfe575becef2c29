"""GGUF metadata to what the graph of a Qwen3-MoE model depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrum.models.qwen3_moe.metadata import ARCHITECTURE, ModelError, Reader, is_zero, shown
from ferrum.models.qwen3_moe.rope_scaling import RopeScaling, read_rope_scaling

__all__ = ["ARCHITECTURE", "ModelError", "Qwen3MoeConfig", "RopeScaling", "read_config"]

# What would change the result and is no part of this graph: keys of other architectures, with the
# values that change nothing. llama.cpp writes them of every model that it saves, softcappings as
# the defaults (50 and 30) that it applies to none of these.
_UNSUPPORTED: dict[str, tuple[float, ...]] = {
    "expert_gating_func": (0, 1),  # none said, softmax
    "attn_logit_softcapping": (0, 50),
    "final_logit_softcapping": (0, 30),
    "expert_shared_count": (0,),
    "leading_dense_block_count": (0,),
}


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


def read_config(
    metadata: Mapping[str, Any], vocabulary: int, tied_embeddings: bool
) -> Qwen3MoeConfig:
    """The config that a GGUF's metadata describe; ModelError names the key that is wrong.

    `vocabulary` is the embedding's row count and `tied_embeddings` whether `output.weight` is
    missing: the two facts that only the tensors know.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture != ARCHITECTURE:
        raise ModelError(f"general.architecture: {shown(architecture)} -> {ARCHITECTURE!r}")
    reader = Reader(metadata)
    hidden, heads = reader.whole("embedding_length"), reader.whole("attention.head_count")
    head_dim = reader.whole("attention.key_length", max(hidden // heads, 1))
    config = Qwen3MoeConfig(
        name=_name(metadata.get("general.name", "")),
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
        rope_scaling=read_rope_scaling(reader),
        rms_epsilon=reader.real("attention.layer_norm_rms_epsilon"),
        normalize_expert_weights=_normalize(reader),
        expert_weights_scale=_weights_scale(reader),
        tied_embeddings=tied_embeddings,
    )
    _check(config, reader)
    _check_unsupported(config, reader)
    return config


def _name(value: Any) -> str:
    """Of the model. Bytes that are not UTF-8, which no JSON can hold, become U+FFFD."""
    if not isinstance(value, str):
        return shown(value)
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _check(config: Qwen3MoeConfig, reader: Reader) -> None:
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


def _check_unsupported(config: Qwen3MoeConfig, reader: Reader) -> None:
    for key, allowed in _UNSUPPORTED.items():
        reader.among(key, allowed)
    window = reader.given("attention.sliding_window")
    # A window as long as the context hides nothing.
    if not (isinstance(window, (int, float)) and window >= config.context_length):
        reader.among("attention.sliding_window", (0,))


def _normalize(reader: Reader) -> bool:
    # Qwen3-MoE normalizes (norm_topk_prob); converters write the key only where it is unusual.
    value = reader.given("expert_weights_norm")
    if value is None:
        return True
    if not isinstance(value, bool):
        raise ModelError(
            f"metadata {ARCHITECTURE}.expert_weights_norm: {shown(value)} -> true or false"
        )
    return value


def _weights_scale(reader: Reader) -> float:
    # Converters write 0 for "not scaled".
    scaled = not is_zero(reader.given("expert_weights_scale"))
    return reader.real("expert_weights_scale", 1.0) if scaled else 1.0
