"""What lies on either side of a GPU's bus, and what crosses it, follows from the graph."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.check.export import Export
from ferrum.builder.gguf import GGUF
from ferrum.builder.transfers import Transfers, transfers

SPEC = SyntheticSpec(layers=3, experts=8, experts_used=2, mixture="Q4_K_M")


def split(folder: Path, layers: int, dtype: str = "float32") -> Transfers | None:
    write_synthetic(folder / "m.gguf", SPEC)
    build(folder / "m.gguf", folder / "m.onnx", BuildOptions(cpu_experts=layers, dtype=dtype))
    return transfers(Export(folder / "m.onnx"))


def test_a_gpu_alone_has_none(tmp_path: Path) -> None:
    assert split(tmp_path, 0) is None


@pytest.mark.parametrize("layers", [1, 3])
def test_these_layers_stacks_are_on_the_host_and_all_else_on_the_gpu(
    tmp_path: Path, layers: int
) -> None:
    found = split(tmp_path, layers)
    assert found is not None
    tensors = GGUF.open(tmp_path / "m.gguf").tensors
    stacks = [
        sum(t.nbytes for name, t in tensors.items()
            if name.startswith(f"blk.{i}.") and "_exps" in name)
        for i in range(layers)
    ]  # fmt: skip
    assert [node.weight_bytes for node in found.nodes] == stacks
    assert found.host_bytes == sum(stacks)
    assert found.host_bytes + found.gpu_bytes == sum(t.nbytes for t in tensors.values())


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_a_layer_takes_rows_weights_and_ids_and_gives_its_sum(
    tmp_path: Path, dtype: str, size: int
) -> None:
    found = split(tmp_path, 3, dtype)
    assert found is not None
    taken = size * 256 + 4 * (2 + 2)
    for i, node in enumerate(found.nodes):
        at = f"blk.{i}."
        assert node.name == at + "moe"
        wanted = (at + "normed", at + "expert_weights", at + "expert_ids")
        assert node.down.values == wanted
        assert node.down.bytes_per_token == taken
        assert (node.up.values, node.up.bytes_per_token) == ((at + "moe",), size * 256)
    assert len(found.down.values) == 9
    assert found.down.bytes_per_token == 3 * taken
    assert found.up.bytes_per_token == 3 * size * 256


def test_what_the_cpu_alone_uses_does_not_cross(tmp_path: Path) -> None:
    split(tmp_path, 1)
    export = Export(tmp_path / "m.onnx")
    nodes = {node.name: node for node in export.model.graph.node}
    # The second layer's experts, on the CPU too, take the first's sum and its choice.
    second = nodes["blk.1.moe"]
    second.op_type = "HostQuantMoE"
    second.input[:3] = ["blk.0.moe", *nodes["blk.0.moe"].input[1:3]]
    for node in export.model.graph.node:
        if node is not second:
            node.input[:] = ["embedding" if v == "blk.0.moe" else v for v in node.input]
    found = transfers(export)
    assert found is not None
    assert [node.up.values for node in found.nodes] == [(), ("blk.1.moe",)]
    assert [len(node.down.values) for node in found.nodes] == [3, 0]
