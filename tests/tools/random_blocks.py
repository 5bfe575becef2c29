"""Random valid blocks of every ggml type, decoding to values of a chosen standard deviation.

All bytes of a block are random but its scales: those are set so that the decoded values have
mean 0 and the wanted deviation, and vary from block to block by up to half, so that a kernel which
takes a neighbour's scale is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import gguf.quants
import numpy as np
import numpy.typing as npt

from ferrum.custom_ops.quants import QUANTS

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Halves:
    """Byte offsets of a block's float16 scale and, where it has one, of its minimum's."""

    scale: int
    minimum: int | None = None


_HALVES = {
    "Q4_0": Halves(0), "Q4_1": Halves(0, 2), "Q5_0": Halves(0), "Q5_1": Halves(0, 2),
    "Q8_0": Halves(0), "Q2_K": Halves(80, 82), "Q3_K": Halves(108), "Q4_K": Halves(0, 2),
    "Q5_K": Halves(0, 2), "Q6_K": Halves(208), "IQ2_XXS": Halves(0), "IQ2_XS": Halves(0),
    "IQ3_XXS": Halves(0), "IQ1_S": Halves(0), "IQ4_NL": Halves(0), "IQ3_S": Halves(0),
    "IQ2_S": Halves(0), "IQ4_XS": Halves(0), "TQ1_0": Halves(52), "TQ2_0": Halves(64),
}  # fmt: skip
_FLOATS = ("F32", "F16", "BF16")


def random_blocks(name: str, count: int, deviation: float, seed: int) -> Bytes:
    """uint8[count, bytes] blocks of type `name` whose values have about that deviation."""
    quant = QUANTS.by_name(name)
    rng = np.random.default_rng([seed, quant.id])
    if name in _FLOATS:
        return float_blocks(name, rng.standard_normal(count, np.float32) * np.float32(deviation))
    blocks = _random_bytes(name, count, rng)
    vary = rng.uniform(0.5, 1.5, count)
    if name in _HALVES:
        scale, minimum = _unit_scales(name)
        _set_half(blocks, _HALVES[name].scale, scale * deviation * vary)
        if (at := _HALVES[name].minimum) is not None:
            _set_half(blocks, at, minimum * deviation * vary)
    elif name == "IQ1_M":
        (scale, _) = _unit_scales(name)
        _set_iq1_m_scale(blocks, scale * deviation * vary)
    elif name == "MXFP4":
        # One exponent byte; the codes' own deviation is about 2.9.
        blocks[:, 0] = np.clip(127 + np.round(np.log2(deviation * vary / 2.9)), 1, 253)
    elif name == "NVFP4":
        _set_nvfp4_scales(blocks, deviation * rng.uniform(0.5, 1.5, (count, 4)))
    else:
        raise ValueError(f"no random blocks for ggml type {name}")
    return blocks


def float_blocks(name: str, values: npt.NDArray[np.float32]) -> Bytes:
    """Values as blocks of length 1 of a float type: uint8[values, bytes]."""
    if name == "F32":
        return values.astype("<f4").view(np.uint8).reshape(-1, 4)
    if name == "F16":
        return values.astype("<f2").view(np.uint8).reshape(-1, 2)
    bits = values.astype("<f4").view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2").view(np.uint8).reshape(-1, 2)


def decode(name: str, blocks: Bytes) -> npt.NDArray[np.float32]:
    """float32[blocks, block length], by the gguf package."""
    kind = gguf.GGMLQuantizationType[name]
    decoded: npt.NDArray[np.float32] = gguf.quants.dequantize(blocks, kind)
    return decoded


def _random_bytes(name: str, count: int, rng: np.random.Generator) -> Bytes:
    blocks = rng.integers(0, 256, (count, QUANTS.by_name(name).bytes), dtype=np.uint8)
    if name == "TQ2_0":  # of its four codes the last is not used
        blocks ^= (blocks & (blocks >> 1) & 0x55) << 1
    return blocks


@cache
def _unit_scales(name: str) -> tuple[float, float]:
    """Scale and minimum scale at which random blocks decode to mean 0 and deviation 1."""
    rng = np.random.default_rng(0)
    blocks = _random_bytes(name, 512, rng)
    one = np.ones(len(blocks))
    if name == "IQ1_M":
        _set_iq1_m_scale(blocks, one)
        return 1 / float(decode(name, blocks).std()), 0.0
    halves = _HALVES[name]
    _set_half(blocks, halves.scale, one)
    if halves.minimum is None:
        return 1 / float(decode(name, blocks).std()), 0.0
    _set_half(blocks, halves.minimum, 0 * one)
    by_scale = decode(name, blocks).mean(dtype=np.float64)
    _set_half(blocks, halves.scale, 0 * one)
    _set_half(blocks, halves.minimum, one)
    by_minimum = decode(name, blocks).mean(dtype=np.float64)
    ratio = -by_scale / by_minimum
    _set_half(blocks, halves.scale, one)
    _set_half(blocks, halves.minimum, ratio * one)
    scale = 1 / float(decode(name, blocks).std())
    return scale, float(ratio) * scale


def _set_half(blocks: Bytes, at: int, values: npt.NDArray[Any]) -> None:
    blocks[:, at : at + 2] = values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _set_iq1_m_scale(blocks: Bytes, values: npt.NDArray[Any]) -> None:
    """IQ1_M spreads its half over the top four bits of four 16-bit words at byte 48."""
    half = values.astype("<f2").view(np.uint16)
    words = np.ascontiguousarray(blocks[:, 48:56]).view("<u2")
    for word in range(4):
        top = (half >> (4 * word)) & 0xF
        words[:, word] = (words[:, word] & 0x0FFF) | (top << 12)
    blocks[:, 48:56] = words.view(np.uint8)


def _set_nvfp4_scales(blocks: Bytes, deviations: npt.NDArray[Any]) -> None:
    """NVFP4 starts with four unsigned E4M3 scales, one for 16 values each."""
    code = np.arange(1, 127)
    exponent, mantissa = code >> 3, (code & 7) / 8
    scales = np.where(exponent == 0, mantissa / 64, (1 + mantissa) * 2.0 ** (exponent - 7))
    blocks[:, :4] = code[np.clip(np.searchsorted(scales, deviations / 2.9), 0, 125)]
