"""The survey says what the files say, and what the runtime will need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.check.export import ExportError
from ferrum.builder.gguf import GGUF
from ferrum.builder.survey import survey
from ferrum.custom_ops.library import describe


def test_types_and_tensors_add_up_to_the_file(sample: Path) -> None:
    found, gguf = survey(sample), GGUF.open(sample)
    total = sum(tensor.nbytes for tensor in gguf.tensors.values())
    assert sum(row.bytes for row in found.types) == total
    assert sum(row.bytes for row in found.roles) == total
    assert sum(row.tensors for row in found.types) == len(gguf.tensors)
    assert found.parameters == sum(int(np.prod(t.shape)) for t in gguf.tensors.values())


def test_memory_is_the_caches_of_context_and_batch(sample: Path) -> None:
    memory = survey(sample, context=100, batch=3).memory
    per_token = 2 * 4 * 2 * 64 * 2  # key and value, layers, heads, head_dim, float16
    assert memory.kv_per_token == per_token
    assert memory.kv_caches == per_token * 100 * 3
    assert memory.logits == 4096 * 3 * 4
    assert memory.read_per_token < memory.weights


def test_a_tokens_weights_are_all_but_the_idle_experts(tmp_path: Path) -> None:
    (path,) = write_synthetic(tmp_path / "m.gguf", SyntheticSpec(experts=8, experts_used=2))
    tensors = GGUF.open(path).tensors.values()
    idle = sum(t.nbytes * 6 // 8 for t in tensors if t.name.endswith("_exps.weight"))
    rows = next(t.nbytes for t in tensors if t.name == "token_embd.weight")
    memory = survey(path).memory
    assert memory.read_per_token == memory.weights - idle - rows + rows // 512


def test_an_export_says_where_its_nodes_run(sample: Path, tmp_path: Path) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(kv_dtype="float32", progress=False))
    found = survey(tmp_path / "m.onnx")
    assert found.graph is not None
    assert found.graph["nodes_on"] == {"CPUExecutionProvider": found.graph["nodes"]}
    assert found.memory.kv_per_token == 2 * survey(sample).memory.kv_per_token
    assert found.types == survey(sample).types


def test_types_name_the_kernels_of_this_machine(sample: Path) -> None:
    rows = {row.name: row for row in survey(sample).types}
    assert rows["F32"].multiplied == "float32"
    assert rows["Q4_K"].multiplied == "int8"
    assert {row.kernel for row in rows.values()} == {describe()["isa"]}


def test_an_export_without_its_weights_is_refused(sample: Path, tmp_path: Path) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(progress=False))
    (tmp_path / sample.name).unlink()
    with pytest.raises(ExportError, match="weight files"):
        survey(tmp_path / "m.onnx")
