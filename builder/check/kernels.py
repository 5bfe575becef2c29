"""Kernels against the model's own reference bodies, on weights drawn from this very model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ferrum.builder.check import bounds
from ferrum.builder.check.element_types import ROUNDINGS, activation_type
from ferrum.builder.check.export import Export, attributes
from ferrum.builder.check.finding import Finding, judged, skipped
from ferrum.builder.check.one_node import OneNode, decode
from ferrum.builder.check.samples import Sampler
from ferrum.custom_ops.contract import F
from ferrum.custom_ops.library import Arithmetic, describe
from ferrum.custom_ops.ops import OPS

Arrays = dict[str, npt.NDArray[Any]]
Allowed = list[npt.NDArray[np.float64]]  # per output, how far kernel and body may lie apart
_ARITHMETIC: tuple[Arithmetic, ...] = ("exact", "fast")


@dataclass(frozen=True)
class Case:
    """Inputs for one node, and what its two sides may differ by with int8 activations or not."""

    where: str
    feeds: Arrays
    allowed: Callable[[bool], Allowed]


def kernel(export: Export, op_name: str, *, seed: int, samples: int) -> Finding:
    """Fast and exact kernels of one op against the reference body, over `samples` nodes.

    Every combination of types comes first; layers, experts and rows are drawn with `seed`.
    """
    nodes = [node for node in export.nodes if node.op_type == op_name]
    if not nodes:
        return skipped(f"no {op_name} in this graph")
    rng = np.random.default_rng([seed, list(OPS).index(op_name)])
    problems = []
    used, worst = dict.fromkeys(_ARITHMETIC, 0.0), dict.fromkeys(_ARITHMETIC, 0.0)
    chosen = _choose(nodes, samples, rng)
    for node in chosen:
        case = make_case(export, node, rng)
        one = OneNode(export, node, OPS[op_name], case.feeds)
        wanted = one.body()
        rounding = ROUNDINGS[activation_type(node, export.types)]
        for arithmetic in _ARITHMETIC:
            found = one.kernel(arithmetic)
            allowed = case.allowed(arithmetic == "fast")
            for port, got, want, bound in zip(
                OPS[op_name].outputs, found, wanted, allowed, strict=True
            ):
                if port.dtype == F:
                    bound = bounds.stored(bound, want, rounding.unit, rounding.least)
                share, distance = _distance(got, want, bound)
                used[arithmetic] = max(used[arithmetic], share)
                worst[arithmetic] = max(worst[arithmetic], distance)
                if not share <= 1:
                    problems.append(
                        f"{node.name} ({case.where}), {arithmetic}: {port.name} off by "
                        f"{distance:.3g}, {share:.3g} times what its arithmetic allows"
                    )
    return judged(
        problems,
        f"{len(chosen)} of {len(nodes)} nodes, e.g. {case.where}: off by at most "
        + ", ".join(f"{worst[a]:.1e} {a} ({used[a]:.2g} of its bound)" for a in worst),
    )


def _distance(
    got: npt.NDArray[Any], want: npt.NDArray[Any], bound: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """The largest share of the bound, and the largest distance; NaN or another shape: infinity."""
    if got.shape != want.shape:
        return np.inf, np.inf
    off = np.abs(got.astype(np.float64) - want.astype(np.float64))
    if not np.isfinite(off).all():
        return np.inf, np.inf
    share = np.divide(off, bound, out=np.where(off > 0, np.inf, 0.0), where=bound > 0)
    return float(share.max(initial=0)), float(off.max(initial=0))


def _choose(
    nodes: list[onnx.NodeProto], samples: int, rng: np.random.Generator
) -> list[onnx.NodeProto]:
    """Nodes in a drawn order, those with types not yet seen first."""
    order = [nodes[i] for i in rng.permutation(len(nodes))]
    seen: set[tuple[Any, ...]] = set()
    fresh: list[onnx.NodeProto] = []
    rest: list[onnx.NodeProto] = []
    for node in order:
        types = tuple(v for k, v in sorted(attributes(node).items()) if k.endswith("type"))
        (rest if types in seen else fresh).append(node)
        seen.add(types)
    return fresh + rest[: max(samples - len(fresh), 0)]


def make_case(export: Export, node: onnx.NodeProto, rng: np.random.Generator) -> Case:
    """Inputs for a node: real weights, drawn activations."""
    dtype = activation_type(node, export.types)
    return _CASES[node.op_type](Sampler(export, rng, dtype), node)


def _gather(sampler: Sampler, node: onnx.NodeProto) -> Case:
    type_id = attributes(node)["type"]
    weight, where = sampler.rows(node.input[1])
    values = decode(sampler.export, type_id, weight)
    ids = sampler.rng.permutation(len(weight)).astype(np.int64)
    bound = bounds.linear(np.ones((1, 1)), values[ids].reshape(-1, 1), int8=False)
    return Case(where, {"ids": ids, "weight": weight}, lambda _fast: [bound.reshape(values.shape)])


def _linear(sampler: Sampler, node: onnx.NodeProto) -> Case:
    """QuantMatMul, QuantLogits and QuantQKV: some rows of each matrix."""
    ports = [port.name for port in OPS[node.op_type].inputs[1:]]
    feeds: Arrays = {}
    matrices, ids, wheres = [], [], []
    for port, name in zip(ports, node.input[1:], strict=True):
        weight, where = sampler.rows(name)
        key = "type" if port == "weight" else f"{port.removeprefix('w')}_type"
        type_id = attributes(node)[key]
        feeds[port] = weight
        ids.append(type_id)
        matrices.append(decode(sampler.export, type_id, weight))
        wheres.append(where)
    x = sampler.activations(matrices[0].shape[1])

    group = bounds.NORMED_GROUP if node.op_type == "QuantQKV" else bounds.GROUP

    def allowed(fast: bool) -> Allowed:
        return [
            bounds.linear(
                x.astype(np.float64),
                matrix,
                int8=fast and takes_int8(type_id),
                bfloat16=fast and takes_bfloat16(type_id),
                group=group,
            )
            for matrix, type_id in zip(matrices, ids, strict=True)
        ]

    return Case(wheres[0], {"x": x, **feeds}, allowed)


def _rms_norm(sampler: Sampler, node: onnx.NodeProto) -> Case:
    weight = sampler.vector(node.input[-1])
    x = sampler.activations(len(weight))
    feeds: Arrays = {"x": x}
    total = x
    if node.op_type == "AddRMSNorm":
        feeds["residual"] = sampler.activations(len(weight))[::-1].copy()
        total = x + feeds["residual"]
    wide = total.astype(np.float64)
    mean = (wide**2).mean(-1, keepdims=True) + attributes(node)["epsilon"]
    bound = bounds.rms_norm(wide / np.sqrt(mean) * weight)
    exact = np.zeros_like(wide)  # one float32 sum: the same on both sides

    def allowed(_fast: bool) -> Allowed:
        return [bound, exact] if node.op_type == "AddRMSNorm" else [bound]

    return Case(node.input[-1], {**feeds, "weight": weight}, allowed)


def _route(sampler: Sampler, node: onnx.NodeProto) -> Case:
    count, constants = sampler.export.config.experts, attributes(node)
    # Logits a step of 1/64 apart: no two experts are so alike that rounding could choose.
    rows = [sampler.rng.permutation(count) for _ in range(8)]
    logits = (np.stack(rows) / 64 - count / 128).astype(np.float32)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    top = -np.sort(-p, axis=-1)[:, : constants["k"]]
    if constants["normalize"]:
        top /= top.sum(-1, keepdims=True)
    bound = bounds.route(top, count)
    none = np.zeros((len(rows), constants["k"]))
    return Case(
        "8 rows of logits",
        {"logits": logits},
        lambda _fast: [bound * abs(constants["scale"]), none],
    )


def _experts(sampler: Sampler, node: onnx.NodeProto) -> Case:
    types = [attributes(node)[f"{name}_type"] for name in ("gate", "up", "down")]
    stacks, where = sampler.experts(list(node.input[3:6]))
    matrices = [
        np.stack([decode(sampler.export, type_id, matrix) for matrix in stack])
        for type_id, stack in zip(types, stacks, strict=True)
    ]
    gate, up, down = matrices
    x = sampler.int8_grid(gate.shape[2])
    count = len(gate)
    ids = np.stack([sampler.rng.permutation(count) for _ in x]).astype(np.int32)
    weights = sampler.rng.dirichlet(np.ones(count), len(x)).astype(np.float32)
    feeds: Arrays = {"x": x, "weights": weights, "experts": ids,
                     **dict(zip(("gate", "up", "down"), stacks, strict=True))}  # fmt: skip

    def allowed(fast: bool) -> Allowed:
        a, b, c = (fast and takes_int8(type_id) for type_id in types)
        d, e, f = (fast and takes_bfloat16(type_id) for type_id in types)
        wide = x.astype(np.float64), weights.astype(np.float64)
        return [bounds.experts(*wide, ids, (gate, up, down), (a, b, c), (d, e, f))]

    return Case(where, feeds, allowed)


def _attention(sampler: Sampler, node: onnx.NodeProto) -> Case:
    constants = attributes(node)
    q_norm, k_norm, inv_freq = (sampler.vector(name) for name in node.input[8:11])
    rng, dim = sampler.rng, len(q_norm)
    heads, kv_heads = constants["num_heads"], constants["kv_num_heads"]
    kind, unit, least = {
        "float32": (np.float32, 0.0, 0.0), "float16": (np.float16, 2.0**-11, 2.0**-24)
    }.get(sampler.export.kv_dtype, (None, 0.0, 0.0))  # fmt: skip
    if kind is None:
        # NumPy has no bfloat16 to feed; float32 caches run the same kernel.
        kind, unit, least = np.float32, 0.0, 0.0
    tokens, blocks, size = 9, 8, 4

    def draw(*shape: int) -> npt.NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    feeds: Arrays = {
        "q": sampler.normal(tokens, heads * dim),
        "k": sampler.normal(tokens, kv_heads * dim),
        "v": sampler.normal(tokens, kv_heads * dim),
        "key_cache": draw(blocks, size, kv_heads, dim).astype(kind),
        "value_cache": draw(blocks, size, kv_heads, dim).astype(kind),
        "block_table": rng.permutation(blocks).reshape(2, 4).astype(np.int32),
        "cumulative_sequence_lengths": np.array([0, 6, tokens], np.int32),
        "past_sequence_lengths": np.array([5, 10], np.int32),
        "q_norm": q_norm,
        "k_norm": k_norm,
        "inv_freq": inv_freq,
    }

    def allowed(fast: bool) -> list[bounds.Array]:
        int16 = fast and kind != np.float32 and attention_takes_int16()
        bound = bounds.attention(feeds, constants, unit, least, int16=int16)
        return [bound.output, bound.keys, bound.values]

    return Case(f"norms of {node.name}", feeds, allowed)


_CASES: dict[str, Callable[[Sampler, onnx.NodeProto], Case]] = {
    "QuantGather": _gather,
    "QuantMatMul": _linear,
    "QuantLogits": _linear,
    "QuantQKV": _linear,
    "RMSNorm": _rms_norm,
    "AddRMSNorm": _rms_norm,
    "RouteTopK": _route,
    "QuantMoE": _experts,
    "HostQuantMoE": _experts,
    "PagedAttention": _attention,
}


def attention_takes_int16() -> bool:
    """Whether fast arithmetic multiplies caches of 2 bytes in 16-bit integers here."""
    description = describe()
    return description["isa"] in description["int16_attention"]


def takes_int8(type_id: int) -> bool:
    """Whether fast arithmetic multiplies that type with int8 activations."""
    quants = {quant["id"]: quant for quant in describe()["quants"]}
    return bool(quants[type_id]["int8"])


def takes_bfloat16(type_id: int) -> bool:
    """Whether fast arithmetic rounds that type's activations to bfloat16 here."""
    description = describe()
    quants = {quant["id"]: quant for quant in description["quants"]}
    return description["isa"] in quants[type_id]["bfloat16"]
