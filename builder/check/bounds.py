"""How far a kernel and a reference body may lie apart, from the arithmetic that each does.

u = 2^-24 is float32's unit roundoff and gamma(n) = n u / (1 - n u) bounds the relative error of a
term that goes through n roundings, in whatever order a sum is taken (Higham, Accuracy and Stability
of Numerical Algorithms, chapter 3). Everything here is computed in float64 from decoded weights.
Both sides round, so a float32 bound counts twice.

Fast arithmetic takes activations in int8, one scale max|x| / 127 per group of 32: each value is off
by at most half a step, max|x| / 254. (Kernels that add a second int8 term stay far below.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
UNIT = 2.0**-24
GROUP = 32
_MORE = 8  # roundings of a term besides its sum: decoding, scales, the final stores
_SILU_SLOPE = 1.1  # the largest derivative of x * sigmoid(x) is 1.0998
_SIGMOID = 2.0**-21  # absolute error of either side's sigmoid
_TRIGONOMETRY = 8 * UNIT  # of cosine and sine, absolute


def gamma(roundings: int) -> float:
    """Relative error of a term after that many float32 roundings."""
    return roundings * UNIT / (1 - roundings * UNIT)


def linear(x: Array, matrix: Array, *, int8: bool) -> Array:
    """Of x [tokens, k] times matrix [rows, k] transposed: [tokens, rows]."""
    # Types with a minimum decode as d * q - m and sum both parts on their own, so a value near zero
    # rounds as its group's largest does: |d q| + |m| <= 3 max|w|.
    magnitude = np.abs(x) @ (3 * _largest_of_group(matrix)).T
    bound = 2 * gamma(x.shape[1] + _MORE) * magnitude
    if int8:
        bound += int8_step(x) @ np.abs(matrix).T
    return np.asarray(bound)


def int8_step(x: Array) -> Array:
    """Half a step of int8 activations, [tokens, k]; 0 where a group lies on its int8 grid."""
    largest = _largest_of_group(x)
    scale = largest / 127
    codes = np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)
    exact = _group_all(codes == np.rint(codes))
    return np.where(exact, 0.0, largest / 254 * 1.0001)  # the division itself rounds


def rms_norm(normed: Array) -> Array:
    """Of normed values [..., n], whose mean square is a sum of n terms."""
    return np.asarray(2 * gamma(normed.shape[-1] + _MORE) * np.abs(normed))


def experts(
    x: Array,
    weights: Array,
    ids: npt.NDArray[np.int32],
    matrices: tuple[Array, Array, Array],
    int8: tuple[bool, bool, bool],
) -> Array:
    """Of QuantMoE: gate and up's errors through silu(gate) * up, then through down, slots summed.

    x [tokens, hidden]; weights, ids [tokens, k]; gate, up [experts, width, hidden]; down [experts,
    hidden, width]; int8 says which of the three are multiplied in int8.
    """
    bound = np.zeros_like(x)
    for expert in np.unique(ids):
        tokens, slots = np.nonzero(ids == expert)
        gate, up, down = (matrix[expert] for matrix in matrices)
        own, share = x[tokens], np.abs(weights[tokens, slots])[:, None]
        g, u = own @ gate.T, own @ up.T
        dg, du = linear(own, gate, int8=int8[0]), linear(own, up, int8=int8[1])
        silu = g / (1 + np.exp(-g))
        hidden = silu * u
        off = (
            _SILU_SLOPE * dg * (np.abs(u) + du)
            + np.abs(silu) * du
            + np.abs(g * u) * _SIGMOID
            + 2 * gamma(_MORE) * np.abs(hidden)
        )
        product = off @ np.abs(down).T + linear(hidden, down, int8=False)
        if int8[2]:
            # What is rounded is each side's own hidden row, and never one that lies on the grid.
            step = _largest_of_group(np.abs(hidden) + off) / 254 * 1.0001
            product += step @ np.abs(down).T
        summed = 2 * gamma(ids.shape[1] + 2) * np.abs(hidden @ down.T)
        np.add.at(bound, tokens, share * (product + summed))
    return bound


@dataclass(frozen=True)
class AttentionBound:
    """Allowed distances of PagedAttention's outputs."""

    output: Array  # [tokens, heads * dim]
    keys: Array  # as the key cache
    values: Array  # as the value cache


def attention(
    feeds: dict[str, npt.NDArray[Any]], constants: dict[str, Any], unit: float, least: float
) -> AttentionBound:
    """Of PagedAttention over caches whose type has unit roundoff `unit` and least step `least`.

    The two sides' keys may round to neighbouring numbers of the cache's type; that moves scores,
    and scores the softmax: probabilities by a factor of at most exp(2 max|score error|).
    """
    heads, kv_heads = constants["num_heads"], constants["kv_num_heads"]
    dim = feeds["key_cache"].shape[3]
    table, past = feeds["block_table"], feeds["past_sequence_lengths"]
    ends, size = feeds["cumulative_sequence_lengths"], feeds["key_cache"].shape[1]
    keys, values = (feeds[name].astype(np.float64) for name in ("key_cache", "value_cache"))
    off_keys, off_values = np.zeros_like(keys), np.zeros_like(values)
    steps = [
        (t, b, int(past[b]) + t - int(ends[b]))
        for b in range(len(past))
        for t in range(ends[b], ends[b + 1])
    ]
    queries = np.zeros((len(steps), heads, dim))
    off_queries = np.zeros_like(queries)

    def turned(name: str, t: int, count: int, position: int) -> tuple[Array, Array]:
        x = feeds[name][t].reshape(count, dim).astype(np.float64)
        mean = (x**2).mean(-1, keepdims=True) + constants["epsilon"]
        normed = x / np.sqrt(mean) * feeds[f"{name}_norm"]
        angle = np.float32(position) * feeds["inv_freq"]
        cosine, sine = (f(angle.astype(np.float64)) for f in (np.cos, np.sin))
        first, second = normed[:, : dim // 2], normed[:, dim // 2 :]
        both = np.concatenate(
            [first * cosine - second * sine, second * cosine + first * sine], axis=1
        )
        pair = np.tile(np.abs(first) + np.abs(second), 2)
        amplitude = constants["rope_scale"]
        return both * amplitude, 2 * amplitude * pair * (gamma(dim + _MORE) + _TRIGONOMETRY)

    for t, b, position in steps:
        at = (table[b, position // size], position % size)
        key, off = turned("k", t, kv_heads, position)
        keys[at] = key
        off_keys[at] = off + 2 * unit * (np.abs(key) + off) + (least if unit else 0.0)
        values[at] = feeds["v"][t].reshape(kv_heads, dim)
        off_values[at] = 0.0  # the same number rounded once on both sides
        queries[t], off_queries[t] = turned("q", t, heads, position)
    output = np.zeros((len(steps), heads, dim))
    for t, b, position in steps:
        seen = [(table[b, p // size], p % size) for p in range(position + 1)]
        for h in range(heads):
            of = h * kv_heads // heads
            k, dk, v = (
                np.stack([cache[at][of] for at in seen]) for cache in (keys, off_keys, values)
            )
            q, dq = np.abs(queries[t, h]), off_queries[t, h]
            score = constants["scale"] * (k @ queries[t, h])
            sums = 2 * gamma(dim + _MORE) * (np.abs(k) @ q)
            off_score = constants["scale"] * ((np.abs(k) + dk) @ dq + dk @ q + sums)
            p = np.exp(score - score.max())
            p /= p.sum()
            slack = np.expm1(2 * off_score.max()) + 2 * gamma(2 * len(seen) + 2 * _MORE)
            output[t, h] = slack * (p @ (np.abs(v) * (1 + 2 * unit)))
    return AttentionBound(output.reshape(len(steps), -1), off_keys, off_values)


def route(probabilities: Array) -> Array:
    """Of softmax probabilities [tokens, experts], renormalized or not."""
    return np.asarray(2 * gamma(2 * probabilities.shape[1] + 2 * _MORE) * probabilities)


def _groups(x: Array) -> Array:
    pad = -x.shape[-1] % GROUP
    return np.pad(x, ((0, 0), (0, pad))).reshape(x.shape[0], -1, GROUP)


def _spread(per_group: npt.NDArray[Any], columns: int) -> npt.NDArray[Any]:
    return np.repeat(per_group, GROUP, axis=1)[:, :columns]


def _largest_of_group(x: Array) -> Array:
    return np.asarray(_spread(np.abs(_groups(x)).max(-1), x.shape[1]))


def _group_all(holds: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    rows = _groups(np.where(holds, 0.0, 1.0)).max(-1) == 0
    return np.asarray(_spread(rows, holds.shape[1]))
