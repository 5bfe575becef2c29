"""Which ggml type each tensor of a Qwen3-MoE gets, as llama.cpp's quantizer chooses it.

Rules for models with at least four query heads per key/value head, quantized without an
importance matrix; the tests compare them with files that llama.cpp wrote.
"""

from __future__ import annotations

from collections.abc import Callable

from ferrum.custom_ops.quants import QUANTS

# general.file_type of the format, for the mixtures and types that have one.
FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
    "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ2_XXS": 19, "IQ2_XS": 20,
    "IQ3_XXS": 23, "IQ1_S": 24, "IQ4_NL": 25, "IQ3_S": 26, "IQ2_S": 28, "IQ4_XS": 30,
    "IQ1_M": 31, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37, "MXFP4": 38,
}  # fmt: skip


def more_bits(layer: int, layers: int) -> bool:
    """Whether a layer is among the half that the _M mixtures give more bits."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _k_medium(base: str) -> Callable[[str, int, int], str]:
    def pick(kind: str, layer: int, layers: int) -> str:
        if kind in ("attn_v", "ffn_down_exps") and more_bits(layer, layers):
            return "Q6_K"
        return "Q6_K" if kind == "output" else base

    return pick


def _q3_k_medium(kind: str, layer: int, layers: int) -> str:
    if kind == "output":
        return "Q6_K"
    if kind == "attn_v":
        return "Q5_K" if layer < 2 else "Q4_K"
    if kind == "ffn_down_exps":
        return "Q5_K" if layer < layers // 16 else "Q4_K"
    return "Q4_K" if kind == "attn_output" else "Q3_K"


def _q2_k(kind: str, layer: int, layers: int) -> str:
    special = {
        "output": "Q6_K", "attn_v": "Q4_K", "attn_output": "Q3_K", "ffn_down_exps": "Q3_K",
    }  # fmt: skip
    return special.get(kind, "Q2_K")


def _iq4_xs(kind: str, layer: int, layers: int) -> str:
    if kind == "ffn_down_exps" and layer < layers // 8:
        return "Q5_K"
    return {"output": "Q6_K", "attn_v": "Q5_K"}.get(kind, "IQ4_XS")


def _iq3_s(kind: str, layer: int, layers: int) -> str:
    return {"output": "Q6_K", "attn_v": "Q4_K"}.get(kind, "IQ3_S")


def _iq2_xs(kind: str, layer: int, layers: int) -> str:
    if kind == "ffn_down_exps" and layer < layers // 8:
        return "Q2_K"
    return {"output": "Q5_K", "attn_v": "Q4_K", "token_embd": "Q2_K"}.get(kind, "IQ2_XS")


def _mxfp4(kind: str, layer: int, layers: int) -> str:
    return "MXFP4" if kind.endswith("_exps") else "Q8_0"


def _q4_0(kind: str, layer: int, layers: int) -> str:
    return "Q6_K" if kind == "output" else "Q4_0"


MIXTURES: dict[str, Callable[[str, int, int], str]] = {
    "Q4_K_M": _k_medium("Q4_K"),
    "Q5_K_M": _k_medium("Q5_K"),
    "Q3_K_M": _q3_k_medium,
    "Q2_K": _q2_k,
    "Q4_0": _q4_0,
    "IQ4_XS": _iq4_xs,
    "IQ3_S": _iq3_s,
    "IQ2_XS": _iq2_xs,
    "MXFP4": _mxfp4,
}


def tensor_type(mixture: str, name: str, layers: int) -> str:
    """The type of a tensor called `name`; a mixture may also be one type for all matrices."""
    parts = name.split(".")
    kind = parts[-2]
    if kind.endswith("norm") or kind == "ffn_gate_inp":
        return "F32"
    layer = int(parts[1]) if parts[0] == "blk" else -1
    if mixture in MIXTURES:
        return MIXTURES[mixture](kind, layer, layers)
    return QUANTS.by_name(mixture).name
