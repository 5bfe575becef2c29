"""The ops' definitions in plain numpy and float64: what every body and kernel is held against."""

from __future__ import annotations

import numpy as np
from random_blocks import decode, random_blocks

from ferrum.custom_ops.quants import QUANTS


def quantized(type_id: int, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random valid blocks uint8[..., row bytes] of a type and their decoded float32[shape]."""
    quant = QUANTS.by_id(type_id)
    count = int(np.prod(shape)) // quant.block
    blocks = random_blocks(quant.name, count, shape[-1] ** -0.5, seed)
    row = quant.row_bytes(shape[-1])
    return blocks.reshape(*shape[:-1], row), decode(quant.name, blocks).reshape(shape)


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    wide = x.astype(np.float64)
    return wide / np.sqrt((wide**2).mean(-1, keepdims=True) + epsilon) * weight


def softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def route(
    logits: np.ndarray, k: int, normalize: bool, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    probabilities = softmax(logits)
    experts = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    weights = np.take_along_axis(probabilities, experts, -1)
    if normalize:
        weights = weights / weights.sum(-1, keepdims=True)
    return weights * scale, experts


def moe(
    x: np.ndarray,
    weights: np.ndarray,
    experts: np.ndarray,
    gate: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
) -> np.ndarray:
    """gate, up float32[E, I, H] and down float32[E, H, I], decoded."""
    out = np.zeros(x.shape, np.float64)
    for t, row in enumerate(x.astype(np.float64)):
        for weight, e in zip(weights[t], experts[t], strict=True):
            gated = gate[e].astype(np.float64) @ row
            hidden = gated / (1 + np.exp(-gated)) * (up[e].astype(np.float64) @ row)
            out[t] += weight * (down[e].astype(np.float64) @ hidden)
    return out


def attention(
    inputs: dict[str, np.ndarray],
    num_heads: int,
    kv_num_heads: int,
    scale: float,
    epsilon: float,
    rope_scale: float,
) -> list[np.ndarray]:
    """PagedAttention token by token; writes all, then reads."""
    keys, values = inputs["key_cache"].copy(), inputs["value_cache"].copy()
    bounds, past = inputs["cumulative_sequence_lengths"], inputs["past_sequence_lengths"]
    table, block_size = inputs["block_table"], keys.shape[1]
    dim = keys.shape[3]

    def place(b: int, position: int) -> tuple[int, int]:
        return table[b, position // block_size], position % block_size

    def turned(heads: np.ndarray, position: int) -> np.ndarray:
        angle = np.float64(position) * inputs["inv_freq"]
        first, second = heads[:, : dim // 2], heads[:, dim // 2 :]
        cosine, sine = np.cos(angle) * rope_scale, np.sin(angle) * rope_scale
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], 1)

    steps = [
        (t, b, int(past[b]) + t - int(bounds[b]))
        for b in range(len(past))
        for t in range(bounds[b], bounds[b + 1])
    ]
    for t, b, position in steps:
        key = rms_norm(inputs["k"][t].reshape(kv_num_heads, dim), inputs["k_norm"], epsilon)
        keys[place(b, position)] = turned(key, position)
        values[place(b, position)] = inputs["v"][t].reshape(kv_num_heads, dim)
    out = np.zeros(inputs["q"].shape, np.float64)
    for t, b, position in steps:
        query = rms_norm(inputs["q"][t].reshape(num_heads, dim), inputs["q_norm"], epsilon)
        query = turned(query, position)
        seen = [place(b, p) for p in range(position + 1)]
        for h in range(num_heads):
            of = h // (num_heads // kv_num_heads)
            scores = np.array([query[h] @ keys[at][of].astype(np.float64) for at in seen]) * scale
            mixed = softmax(scores) @ np.stack([values[at][of].astype(np.float64) for at in seen])
            out[t, h * dim : (h + 1) * dim] = mixed
    return [out.astype(np.float32), keys, values]
