"""How positions beyond the trained context are squeezed into it, from a GGUF's metadata."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ferrum.models.qwen3_moe.metadata import ARCHITECTURE, ModelError, Reader, is_zero, shown


@dataclass(frozen=True)
class RopeScaling:
    """How positions beyond the trained context are squeezed into it.

    `kind` is "linear" (all angles divided by `factor`) or "yarn" (Peng et al. 2023, YaRN: angles
    that turn often stay, those that turn less than once are divided, a ramp lies between).
    `attention_factor` multiplies the amplitude, as in llama.cpp.
    """

    kind: str
    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    @property
    def amplitude(self) -> float:
        """What cosines and sines are multiplied with."""
        factor = 1.0 if self.attention_factor is None else self.attention_factor
        return factor * self.temperature

    @property
    def temperature(self) -> float:
        """YaRN's own share of the amplitude."""
        return 0.1 * math.log(self.factor) + 1.0 if self.kind == "yarn" and self.factor > 1 else 1.0


def read_rope_scaling(reader: Reader) -> RopeScaling | None:
    """What llama.cpp makes of these keys: a factor without a type is linear, one of 0 scales
    nothing, and the attention factor counts whatever the type."""
    kind = reader.given("rope.scaling.type")
    if kind is not None and (not isinstance(kind, str) or kind not in ("none", "linear", "yarn")):
        raise ModelError(
            f"metadata {ARCHITECTURE}.rope.scaling.type: {shown(kind)} -> none, linear or yarn"
        )
    factor = None if kind == "none" else _rope_factor(reader, kind)
    attention = None
    if reader.given("rope.scaling.attn_factor") is not None:
        attention = reader.real("rope.scaling.attn_factor")
    context = reader.whole("context_length")
    if factor is None:
        plain = attention in (None, 1.0)
        return None if plain else RopeScaling("linear", 1.0, context, attention_factor=attention)
    if kind != "yarn":
        trained = _trained_context(reader, max(int(context / factor), 1))
        return RopeScaling("linear", factor, trained, attention_factor=attention)
    scaling = RopeScaling(
        "yarn",
        factor,
        _trained_context(reader, context),
        beta_fast=reader.real("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=reader.real("rope.scaling.yarn_beta_slow", 1.0),
        attention_factor=attention,
    )
    _check_yarn(scaling, reader)
    return scaling


def _rope_factor(reader: Reader, kind: str | None) -> float | None:
    """By how much positions are squeezed; None where they are not."""
    key, old = "rope.scaling.factor", "rope.scale_linear"
    if reader.given(key) is None and reader.given(old) is not None:
        key = old
    if reader.given(key) is None and kind is None:
        return None
    # llama.cpp saves a model that is not scaled as linear by 0.
    return None if is_zero(reader.given(key)) else reader.real(key)


def _trained_context(reader: Reader, default: int) -> int:
    key = "rope.scaling.original_context_length"
    return default if is_zero(reader.given(key)) else reader.whole(key, default)


def _check_yarn(scaling: RopeScaling, reader: Reader) -> None:
    """Refuse what other models' YaRN can be told and this one's cannot.

    Converters copy these keys from a model's own config, where yarn_attn_factor stands in place of
    the temperature; of a Qwen3-MoE llama.cpp reads neither. 1 is what it takes for the first.
    """
    reader.among("rope.scaling.yarn_ext_factor", (1, -1))  # YaRN whole, not said
    key = "rope.scaling.yarn_attn_factor"
    value, own = reader.real(key, 1.0), scaling.temperature
    if value != 1 and not math.isclose(value, own, rel_tol=1e-4):
        raise ModelError(
            f"metadata {ARCHITECTURE}.{key}: {value:g} -> 1, or {own:g} as a factor of "
            f"{scaling.factor:g} gives"
        )
