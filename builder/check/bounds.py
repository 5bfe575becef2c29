"""How far a kernel and a reference body may lie apart, from the arithmetic that each does.

Float32 rounds every operation by at most u = 2^-24 of its result. Rounding errors are taken as
independent with mean zero, each bounded: a sum of such errors, each at most c_i, exceeds
L sqrt(sum c_i^2) with a chance below 2 exp(-L^2 / 2) (Hoeffding; for rounding errors Higham and
Mary, A new approach to probabilistic rounding error analysis, 2019). L = 8 makes that 3e-14 for a
value; a bound without the assumption would be so wide for two products in a row that nothing could
fail it. The functions `*_spread` give sqrt(sum c_i^2); both sides round, hence the factors sqrt(2).

Fast arithmetic takes activations in int8, one scale max|x| / 127 per group of 32 or, of a norm's
output, at most 128: each value is off by at most half a step, max|x| / 254. (Kernels that add a
second int8 term stay far below.) Where BF16 weights meet activations rounded to bfloat16, a value
is off by at most 2^-8 of itself. Over caches of 2 bytes attention may be multiplied in 16-bit
integers, whose largest is 4095.

Everything is computed in float64 from weights that the model's own bodies decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
UNIT = 2.0**-24
GROUP = 32  # values that share a scale, of weights and of activations
NORMED_GROUP = 128  # of activations that come from a norm, at most
LIKELY = 8.0  # the L above
_INT16 = 4095.0  # attention's largest integer; less where more than 128 products are added
_MORE = 8  # roundings of a term besides its sum: decoding, scales, the final stores
_SILU_SLOPE = 1.1  # the largest derivative of x * sigmoid(x) is 1.0998
_SIGMOID = 2.0**-21  # absolute error of either side's sigmoid
_TRIGONOMETRY = 8 * UNIT  # of cosine and sine, absolute
_BOTH = 2.0**0.5


def gamma(roundings: int) -> float:
    """Relative error that no sequence of so many float32 roundings exceeds."""
    return roundings * UNIT / (1 - roundings * UNIT)


def stored(off: Array, values: npt.NDArray[Any], unit: float, least: float) -> Array:
    """Of results that lay `off` apart in float32, after both were rounded to a type of unit
    roundoff `unit` and least step `least`; `values` are one of both. What was equal stays so."""
    rounds = 2 * unit * (np.abs(values.astype(np.float64)) * (1 + unit) + off) + least
    return np.asarray(np.where(off > 0, off + (rounds if unit else 0.0), 0.0))


def decoded(values: Array) -> Array:
    """Of decoded weights [rows, columns]: a few roundings of each part of a value."""
    return np.asarray(4 * UNIT * _parts(values))


def linear(
    x: Array, matrix: Array, *, int8: bool, bfloat16: bool = False, group: int = GROUP
) -> Array:
    """Of x [tokens, k] times matrix [rows, k] transposed: [tokens, rows]."""
    return LIKELY * linear_spread(x, matrix, int8=int8, bfloat16=bfloat16, group=group)


def linear_spread(
    x: Array, matrix: Array, *, int8: bool, bfloat16: bool = False, group: int = GROUP
) -> Array:
    """The spread of `linear`; int8, or rounding to bfloat16, adds half a step of each activation,
    times its weight."""
    rounds = (x.shape[1] + _MORE) ** 0.5 * UNIT
    spread = _BOTH * rounds * (np.abs(x) @ _parts(matrix).T)
    if int8:
        spread = np.sqrt(spread**2 + int8_step(x, group) ** 2 @ (matrix**2).T)
    if bfloat16:
        spread = np.sqrt(spread**2 + bfloat16_step(x) ** 2 @ (matrix**2).T)
    return np.asarray(spread)


def int8_step(x: Array, group: int = GROUP) -> Array:
    """Half a step of int8 activations, [tokens, k]; 0 where a group lies on its int8 grid."""
    largest = _largest_of_group(x, group)
    scale = largest / 127
    codes = np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)
    exact = _largest_of_group(np.where(codes == np.rint(codes), 0.0, 1.0), group) == 0
    return np.where(exact, 0.0, largest / 254 * 1.0001)  # the division itself rounds


def bfloat16_step(x: Array) -> Array:
    """Half a step of activations in bfloat16, of its 8 bits; 0 where they are bfloat16 already."""
    mantissa, _ = np.frexp(x)
    exact = mantissa * 256 == np.rint(mantissa * 256)
    return np.where(exact, 0.0, np.abs(x) * 2.0**-8)


def rms_norm(normed: Array) -> Array:
    """Of normed values [..., n], whose mean square is a sum of n terms."""
    rounds = (normed.shape[-1] + _MORE) ** 0.5 + _MORE
    return np.asarray(LIKELY * _BOTH * rounds * UNIT * np.abs(normed))


def experts(
    x: Array,
    weights: Array,
    ids: npt.NDArray[np.int32],
    matrices: tuple[Array, Array, Array],
    int8: tuple[bool, bool, bool],
    bfloat16: tuple[bool, bool, bool] = (False, False, False),
) -> Array:
    """Of QuantMoE: gate and up's errors through silu(gate) * up, then through down, slots summed.

    x [tokens, hidden], on its int8 grid if gate or up take int8: else the errors of the hidden
    values would share those of x and not be independent. weights, ids [tokens, k]; gate, up
    [experts, width, hidden]; down [experts, hidden, width]; int8 and bfloat16 say which of the
    three take activations so.
    """
    variance = np.zeros_like(x)
    for expert in np.unique(ids):
        tokens, slots = np.nonzero(ids == expert)
        gate, up, down = (matrix[expert] for matrix in matrices)
        own, share = x[tokens], weights[tokens, slots][:, None]
        g, u = own @ gate.T, own @ up.T
        silu = g / (1 + np.exp(-g))
        hidden = silu * u
        off = np.sqrt(
            (_SILU_SLOPE * linear_spread(own, gate, int8=int8[0], bfloat16=bfloat16[0]) * u) ** 2
            + (silu * linear_spread(own, up, int8=int8[1], bfloat16=bfloat16[1])) ** 2
            + (_BOTH * g * u * _SIGMOID) ** 2
            + (_BOTH * _MORE * UNIT * hidden) ** 2
        )
        if int8[2]:
            # What is rounded is the kernel's own hidden row, which never lies on the grid.
            off = np.hypot(off, _largest_of_group(np.abs(hidden) + LIKELY * off) / 254 * 1.0001)
        if bfloat16[2]:
            off = np.hypot(off, (np.abs(hidden) + LIKELY * off) * 2.0**-8)
        product = off**2 @ (down**2).T + linear_spread(hidden, down, int8=False) ** 2
        product += (_BOTH * (ids.shape[1] + 2) * UNIT * (hidden @ down.T)) ** 2
        np.add.at(variance, tokens, share**2 * product)
    return np.asarray(LIKELY * np.sqrt(variance))


@dataclass(frozen=True)
class AttentionBound:
    """Allowed distances of PagedAttention's outputs; no assumption enters here."""

    output: Array  # [tokens, heads * dim]
    keys: Array  # as the key cache
    values: Array  # as the value cache


def attention(
    feeds: dict[str, npt.NDArray[Any]],
    constants: dict[str, Any],
    unit: float,
    least: float,
    *,
    int16: bool = False,
) -> AttentionBound:
    """Of PagedAttention over caches whose type has unit roundoff `unit` and least step `least`.
    With `int16` the kernel multiplies queries and keys, then weights and values, in integers.

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
            if int16:
                most = _INT16 if dim <= 128 else _INT16 * 0.93 * (128 / dim) ** 0.5
                step_q = (q + dq).max() / most / 2
                step_k = (np.abs(k) + dk).max(1) / most / 2
                taken = np.abs(k).sum(1) * step_q + q.sum() * step_k + dim * step_q * step_k
                off_score += constants["scale"] * taken
            p = np.exp(score - score.max())
            p /= p.sum()
            slack = np.expm1(2 * off_score.max()) + 2 * gamma(2 * len(seen) + 2 * _MORE)
            output[t, h] = slack * (p @ (np.abs(v) * (1 + 2 * unit)))
            if int16:
                heavy = p * (1 + slack) * np.abs(v).max(1) * (1 + 2 * unit)
                output[t, h] += (heavy.sum() + len(seen) * heavy.max()) / _INT16 / 2
    return AttentionBound(output.reshape(len(steps), -1), off_keys, off_values)


def route(top: Array, experts: int) -> Array:
    """Of the chosen experts' probabilities, renormalized or not: a softmax over `experts`."""
    return np.asarray(2 * gamma(2 * experts + 4 * _MORE) * top)


def _parts(weights: Array) -> Array:
    """What the parts of a decoded weight add up to, at most.

    Types with a minimum decode as d * q - m, and kernels sum both parts on their own, so that a
    value near zero rounds as its group's largest does: |d q| + |m| <= 3 max|w|.
    """
    return 3 * _largest_of_group(weights)


def _largest_of_group(x: Array, size: int = GROUP) -> Array:
    pad = -x.shape[-1] % size
    groups = np.pad(np.abs(x), ((0, 0), (0, pad))).reshape(x.shape[0], -1, size)
    return np.asarray(np.repeat(groups.max(-1), size, axis=1)[:, : x.shape[1]])
