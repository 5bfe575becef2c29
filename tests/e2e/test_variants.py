"""Any type in any place, every variant: kernels against reference bodies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exports import Model
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.custom_ops.quants import QUANTS

TOKENS = np.arange(3, 40)
VARIANTS = {
    "a quantized router": SyntheticSpec(types={"*.ffn_gate_inp.weight": "Q8_0"}),
    "a router in F16": SyntheticSpec(types={"*.ffn_gate_inp.weight": "F16"}),
    "norms in BF16": SyntheticSpec(types={"*_norm.weight": "BF16"}),
    "q, k and v of three types": SyntheticSpec(
        types={"*.attn_q.weight": "Q5_K", "*.attn_k.weight": "IQ4_NL", "*.attn_v.weight": "BF16"}
    ),
    "gate, up and down of three types": SyntheticSpec(
        types={
            "*.ffn_gate_exps.weight": "IQ2_XS",
            "*.ffn_up_exps.weight": "Q3_K",
            "*.ffn_down_exps.weight": "MXFP4",
        }
    ),
    "types that differ by layer": SyntheticSpec(
        types={"blk.0.*_exps.weight": "TQ2_0", "blk.1.*_exps.weight": "F32"}
    ),
    "tied embeddings": SyntheticSpec(tied=True),
    "linear rope scaling": SyntheticSpec(rope_scaling="linear"),
    "YaRN": SyntheticSpec(rope_scaling="yarn"),
    "weights that are not normalized": SyntheticSpec(
        metadata={"qwen3moe.expert_weights_norm": False, "qwen3moe.expert_weights_scale": 1.5}
    ),
    "a shape of its own": SyntheticSpec(
        layers=1, hidden=512, heads=6, kv_heads=3, head_dim=32, experts=5, experts_used=3,
        expert_width=256, vocab=300, types={"*.attn_output.weight": "Q8_0"},
    ),
    "every expert chosen": SyntheticSpec(experts=4, experts_used=4),
    "one expert": SyntheticSpec(experts=1, experts_used=1),
    "three files": SyntheticSpec(shards=3),
}  # fmt: skip


def compare(folder: Path, spec: SyntheticSpec) -> None:
    """Exact kernels within float32 rounding of the bodies; fast ones near, and finite."""
    files = write_synthetic(folder / "m.gguf", spec)
    build(files[0], folder / "m.onnx", BuildOptions(kv_dtype="float32"))
    bodies = Model(folder / "m.onnx", library=False).all_logits(TOKENS)
    exact = Model(folder / "m.onnx", arithmetic="exact").all_logits(TOKENS)
    spread = bodies.std()
    assert spread > 0
    np.testing.assert_allclose(exact, bodies, rtol=0, atol=1e-4 * spread)
    fast = Model(folder / "m.onnx").all_logits(TOKENS)
    # int8 activations are off by half a percent; a router at a tie may choose otherwise.
    assert np.median(np.abs(fast - bodies)) < 0.05 * spread


@pytest.mark.parametrize("name", [quant.name for quant in QUANTS])
def test_a_model_of_each_type_runs_as_its_reference_bodies_say(tmp_path: Path, name: str) -> None:
    compare(tmp_path, SyntheticSpec(layers=1, mixture=name))


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_runs_as_its_reference_bodies_say(tmp_path: Path, variant: str) -> None:
    compare(tmp_path, VARIANTS[variant])
