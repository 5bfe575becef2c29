"""Typed access to the metadata of a Qwen3-MoE GGUF; every complaint names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


# Numbers that are float32 in the graph, and whose products with ordinary ones still are. Files may
# hold float64.
_LEAST, _MOST = 1e-30, 1e30


class ModelError(ValueError):
    """The file is a GGUF, but not a Qwen3-MoE model that can be exported; one line."""


def shown(value: Any) -> str:
    """A metadata value on one line: arrays print on several, and files may hold long ones."""
    text = " ".join(ascii(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


class Reader:
    """Typed access to one architecture's keys; every complaint names the key."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata

    def whole(self, key: str, default: int | None = None) -> int:
        """A count of at least 1."""
        value = self._metadata.get(f"{ARCHITECTURE}.{key}", default)
        if value is None:
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: missing -> a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {shown(value)} -> a whole number")
        top = _LIMITS.get(key, 1 << 31)
        if not 1 <= value <= top:
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {value} -> 1 to {top}")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A positive number."""
        value = self._metadata.get(f"{ARCHITECTURE}.{key}", default)
        if value is None:
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: missing -> a number")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {shown(value)} -> a number")
        if not _LEAST <= value <= _MOST:
            raise ModelError(
                f"metadata {ARCHITECTURE}.{key}: {shown(value)} -> a positive finite number, "
                f"{_LEAST:g} to {_MOST:g}"
            )
        return float(value)

    def among(self, key: str, allowed: tuple[float, ...]) -> None:
        """ModelError where a value is given that is none of these."""
        value = self.given(key)
        if value is not None and (not isinstance(value, (int, float)) or value not in allowed):
            wanted = " or ".join(f"{number:g}" for number in allowed)
            raise ModelError(f"metadata {ARCHITECTURE}.{key}: {shown(value)} -> {wanted}")

    def given(self, key: str) -> Any:
        """The value as it stands; None where there is none."""
        return self._metadata.get(f"{ARCHITECTURE}.{key}")


def is_zero(value: Any) -> bool:
    """Whether it is the number 0, which in some keys stands for nothing at all."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0
