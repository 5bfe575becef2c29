"""What the op tests of both providers ask of weights in planes: the bits of their blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
from oracle import quantized

from ferrum.custom_ops.planes import to_planes
from ferrum.custom_ops.quants import QUANTS, Quant

Q4_K = 12
Run = Callable[..., list[np.ndarray]]

ALL = ("gate", "up", "down")
each_layout = pytest.mark.parametrize("planes", QUANTS.planes, ids=lambda quant: quant.name)
# Of a Q4_K_M file, down's; of a Q8_0 file, all three.
each_parts = pytest.mark.parametrize("parts", [ALL, ("down",), ("gate",), ("up", "down")], ids=str)


def pair(planes: Quant, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """The same random matrices [..., rows, columns] as blocks and in planes."""
    assert planes.blocks is not None
    blocks, _ = quantized(planes.blocks.id, shape)
    return blocks, to_planes(planes, blocks)


def activations(tokens: int, k: int) -> np.ndarray:
    return np.random.default_rng(tokens).standard_normal((tokens, k)).astype(np.float32)


def assert_same_matmul(
    run: Run, planes: Quant, tokens: int, rows: int, blocks_in_row: int, **settings: Any
) -> None:
    """QuantMatMul gives the same bits either way."""
    assert planes.blocks is not None
    k = blocks_in_row * planes.block
    blocks, in_planes = pair(planes, rows, k)
    x = activations(tokens, k)
    wanted = run("QuantMatMul", {"x": x, "weight": blocks}, {"type": planes.blocks.id}, **settings)
    found = run("QuantMatMul", {"x": x, "weight": in_planes}, {"type": planes.id}, **settings)
    np.testing.assert_array_equal(found[0], wanted[0])


def assert_same_qkv(run: Run, planes: Quant, tokens: int, v_alone: bool) -> None:
    """QuantQKV does, of three matrices in planes, or of one beside two in blocks of Q4_K."""
    assert planes.blocks is not None
    names, types = ("wq", "wk", "wv"), ("q_type", "k_type", "v_type")
    made = [pair(planes, rows, 512) for rows in (64, 32, 48)]
    others = [quantized(Q4_K, (rows, 512))[0] for rows in (64, 32)]
    outputs = []
    for which, kind in enumerate((planes.blocks, planes)):
        weights, kinds = [both[which] for both in made], [kind.id] * 3
        if v_alone:
            weights[:2], kinds[:2] = others, [Q4_K] * 2
        feeds = {"x": activations(tokens, 512), **dict(zip(names, weights, strict=True))}
        outputs.append(run("QuantQKV", feeds, dict(zip(types, kinds, strict=True))))
    for found, wanted in zip(*outputs, strict=True):
        np.testing.assert_array_equal(found, wanted)


def routed(tokens: int, hidden: int, experts: int, slots: int) -> dict[str, np.ndarray]:
    """What of QuantMoE's inputs is no weight."""
    rng = np.random.default_rng([tokens, slots])
    return {
        "x": rng.standard_normal((tokens, hidden)).astype(np.float32),
        "weights": rng.dirichlet(np.ones(slots), tokens).astype(np.float32).reshape(tokens, slots),
        "experts": np.array([rng.permutation(experts)[:slots] for _ in range(tokens)], np.int32),
    }


def assert_same_experts(
    run: Run, planes: Quant, tokens: int, parts: Collection[str], **settings: Any
) -> None:
    """QuantMoE does, of whichever of its matrices are in planes; the others are of Q4_K."""
    assert planes.blocks is not None
    experts, hidden, width = 6, 512, 256
    shapes = {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}
    inputs = routed(tokens, hidden, experts, 3)
    of_blocks, in_planes, kinds, types = {**inputs}, {**inputs}, {}, {}
    for seed, (part, shape) in enumerate(shapes.items()):
        if part in parts:
            of_blocks[part], in_planes[part] = pair(planes, experts, *shape)
            kinds[f"{part}_type"], types[f"{part}_type"] = planes.blocks.id, planes.id
        else:
            of_blocks[part] = in_planes[part] = quantized(Q4_K, (experts, *shape), seed)[0]
            kinds[f"{part}_type"] = types[f"{part}_type"] = Q4_K
    wanted = run("QuantMoE", of_blocks, kinds, **settings)[0]
    np.testing.assert_array_equal(run("QuantMoE", in_planes, types, **settings)[0], wanted)


def assert_misfits_are_refused(run: Run) -> None:
    """Single rows in planes, and planes that are no whole vectors, stop a session in one line."""
    q6_k = QUANTS.by_name("Q6_K_planes")
    _, weight = pair(q6_k, 12, 256)
    with pytest.raises(
        Exception,
        match=r"\[QuantMatMul\] node: input weight, got shape \[12, 210\], expected planes of "
        "Q6_K_planes of a multiple of 16 bytes each",
    ):
        run("QuantMatMul", {"x": activations(1, 256), "weight": weight}, {"type": q6_k.id})
    ids = np.zeros(1, np.int64)
    with pytest.raises(
        Exception, match=r"\[QuantGather\] node: attribute type, got 1014, expected a ggml type"
    ):
        run("QuantGather", {"ids": ids, "weight": weight}, {"type": q6_k.id})
