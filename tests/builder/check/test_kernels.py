"""Kernels and bodies that disagree are noticed, on the model's own weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
import pytest
from export_folder import ExportFolder

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.check.export import Export
from ferrum.builder.check.kernels import kernel
from ferrum.custom_ops.ops import OPS


def nodes(graph: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """These nodes and those of their branches and loops."""
    for node in graph:
        yield node
        for item in node.attribute:
            yield from nodes(item.g.node)


@pytest.mark.parametrize(
    ("function", "op", "other", "fails"),
    [
        ("DecodeQ4_K", "Sub", "Add", {"QuantGather", "QuantMatMul", "QuantQKV", "QuantMoE"}),
        ("QuantMoE", "Sigmoid", "Softsign", {"QuantMoE"}),
        ("RMSNorm", "Sqrt", "Abs", {"RMSNorm", "AddRMSNorm", "PagedAttention"}),
        ("RouteTopK", "Softmax", "Sigmoid", {"RouteTopK"}),
        ("Rotate", "Sub", "Add", {"PagedAttention"}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_body_that_means_something_else(
    sample: Path, tmp_path: Path, dtype: str, function: str, op: str, other: str, fails: set[str]
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(dtype=dtype, progress=False))
    export = ExportFolder(tmp_path / "m.onnx", tmp_path / sample.name, sample)
    with export.graph() as model:
        body = next(f for f in model.functions if f.name == function)
        changed = [node for node in nodes(body.node) if node.op_type == op]
        assert changed
        for node in changed:
            node.op_type = other
            if other in ("Sigmoid", "Softsign"):
                del node.attribute[:]
    findings = export.findings(*(f"kernel {name}" for name in OPS), samples=1)
    assert {n for n in OPS if findings[f"kernel {n}"].status == "fail"} == fails


def test_the_seed_draws_the_samples(pristine: ExportFolder) -> None:
    export = Export(pristine.path)
    one, again, other = (
        kernel(export, "QuantQKV", seed=seed, samples=1).found for seed in (1, 1, 2)
    )
    assert one == again != other


def test_every_mix_of_types_is_among_the_samples(pristine: ExportFolder) -> None:
    # Q4_K, Q6_K and F32 matrices: three nodes although one was asked for.
    found = kernel(Export(pristine.path), "QuantMatMul", seed=0, samples=1).found
    assert found.startswith("3 of 9 nodes")
