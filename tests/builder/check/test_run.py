"""A sound export passes every check; each way to break one is noticed, and by the right check."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from export_folder import ExportFolder, attribute, node, place, tensor
from onnx import TensorProto, numpy_helper
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.builder.check.run import CheckOptions, checks

GATE, UP = "blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight"


def failing(export: ExportFolder, *names: str, source: bool = False) -> dict[str, str]:
    """The checks that fail, with what they found."""
    findings = export.findings(*names, source=source)
    return {name: f.found for name, f in findings.items() if f.status == "fail"}


def unrecorded() -> dict[str, str]:
    """What is skipped on an ONNX Runtime that keeps no record of assignments."""
    if hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        return {}
    version = ort.__version__
    return {"placement": f"onnxruntime {version} loads it, but keeps no record of assignments"}


def test_a_sound_export_passes_every_check(pristine: ExportFolder) -> None:
    findings = pristine.findings(source=True)
    assert {name: f.found for name, f in findings.items() if f.status != "pass"} == unrecorded()


def test_a_hard_linked_export_with_bfloat16_norms_and_yarn_passes(tmp_path: Path) -> None:
    spec = SyntheticSpec(
        rope_scaling="yarn", mixture="MXFP4", tied=True, shards=2, types={"*_norm.weight": "BF16"}
    )
    first, _ = write_synthetic(tmp_path / "m.gguf", spec)
    build(first, tmp_path / "out" / "m.onnx", BuildOptions(kv_dtype="bfloat16", progress=False))
    export = ExportFolder(tmp_path / "out" / "m.onnx", tmp_path / "out" / first.name, first)
    findings = export.findings(source=True)
    assert {name: f.found for name, f in findings.items() if f.status == "fail"} == {}
    assert "hard-linked" in findings["onnx checker"].found


def test_an_export_with_experts_on_the_cpu_passes(sample: Path, tmp_path: Path) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(cpu_experts=2, progress=False))
    export = ExportFolder(tmp_path / "m.onnx", tmp_path / sample.name, sample)
    findings = export.findings(source=True)
    assert {name: f.found for name, f in findings.items() if f.status != "pass"} == unrecorded()
    assert "of 2 nodes" in findings["kernel HostQuantMoE"].found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_export_with_activations_of_2_bytes_passes(
    sample: Path, tmp_path: Path, dtype: str
) -> None:
    options = BuildOptions(dtype=dtype, kv_dtype="float32", cpu_experts=1, progress=False)
    build(sample, tmp_path / "m.onnx", options)
    export = ExportFolder(tmp_path / "m.onnx", tmp_path / sample.name, sample)
    findings = export.findings(source=True)
    assert {name: f.found for name, f in findings.items() if f.status != "pass"} == unrecorded()


def test_a_manifest_that_tells_another_type_of_activations(export: ExportFolder) -> None:
    path = export.path.with_name("ferrum.json")
    content = json.loads(path.read_text())
    content["graph"]["activation_dtype"] = "float16"
    path.write_text(json.dumps(content))
    found = failing(export, "manifest")
    assert "graph.activation_dtype float16 -> float32, as in the graph" in found["manifest"]


def test_a_type_of_activations_that_the_graph_has_not(export: ExportFolder) -> None:
    with export.graph() as model:
        entry = next(e for e in model.metadata_props if e.key == "ferrum.activation_dtype")
        entry.value = "bfloat16"
    found = failing(export, "manifest")
    assert "ferrum.activation_dtype bfloat16 -> float32" in found["manifest"]


def test_logits_that_were_rounded_before_the_choice_of_experts(
    sample: Path, tmp_path: Path
) -> None:
    build(sample, tmp_path / "m.onnx", BuildOptions(dtype="float16", progress=False))
    export = ExportFolder(tmp_path / "m.onnx", tmp_path / sample.name, sample)
    with export.graph() as model:
        node(model, "blk.1.router").op_type = "QuantMatMul"
    found = failing(export, "wiring", "contracts")
    assert "blk.1.router: QuantMatMul -> QuantLogits" in found["wiring"]
    assert "input logits blk.1.router_logits is FLOAT16 -> FLOAT" in found["contracts"]


def test_another_layers_experts_on_the_cpu(export: ExportFolder) -> None:
    with export.graph() as model:
        node(model, "blk.1.moe").op_type = "HostQuantMoE"
    found = failing(export, "node counts", "wiring", "manifest", "reference bodies")
    assert set(found) == {"node counts", "wiring", "manifest", "reference bodies"}
    assert "blk.1.moe: HostQuantMoE -> QuantMoE" in found["wiring"]
    assert "graph.cpu_experts 0 -> 1" in found["manifest"]


@pytest.mark.parametrize(
    ("key", "change", "told"), [("offset", 144, "of the same file"), ("length", -144, "bytes -> ")]
)
def test_of_one_file_places_are_compared_though_bytes_are_not(
    tmp_path: Path, key: str, change: int, told: str
) -> None:
    (first,) = write_synthetic(tmp_path / "m.gguf", SyntheticSpec())
    build(first, tmp_path / "out" / "m.onnx", BuildOptions(progress=False))
    export = ExportFolder(tmp_path / "out" / "m.onnx", tmp_path / "out" / first.name, first)
    assert export.finding("weight bytes", source=True, quick=True).status == "pass"
    with export.graph() as model:
        gate = tensor(model, GATE)
        value = int(next(e.value for e in gate.external_data if e.key == key))
        place(gate, key, value + change)
    found = export.finding("weight bytes", source=True, quick=True)
    assert found.status == "fail"
    assert told in found.found


def test_a_flipped_byte_in_a_weight(export: ExportFolder) -> None:
    offset = next(r.offset for r in _references(export) if r.name == GATE) + 1000
    with export.weights.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    assert failing(export, "source files", "tensor table", "weight bytes", source=True).keys() == {
        "weight bytes"
    }
    found = export.finding("weight bytes", source=True)
    assert len(found.problems) == 1
    assert GATE in found.found


def _references(export: ExportFolder) -> list[onnx.TensorProto]:
    from ferrum.builder.check.export import Export

    return list(Export(export.path).references.values())  # type: ignore[arg-type]


def test_gate_and_up_swapped_at_the_node(export: ExportFolder) -> None:
    with export.graph() as model:
        inputs = node(model, "blk.1.moe").input
        inputs[3], inputs[4] = inputs[4], inputs[3]
    found = failing(export)
    assert set(found) == {"wiring"}  # types, shapes and kernels cannot tell them apart
    assert f"blk.1.moe: gate is {UP} -> {GATE}" in found["wiring"]


def test_gate_and_up_swapped_in_their_places(export: ExportFolder) -> None:
    with export.graph() as model:
        gate, up = (tensor(model, name) for name in (GATE, UP))
        offsets = [next(e.value for e in t.external_data if e.key == "offset") for t in (gate, up)]
        place(gate, "offset", offsets[1])
        place(up, "offset", offsets[0])
    found = failing(export, "external references", "wiring", "tensor table", "weight bytes")
    assert set(found) == {"tensor table"}
    assert f"which is {UP}" in found["tensor table"]


def test_a_wrong_type_of_weight(export: ExportFolder) -> None:
    with export.graph() as model:
        attribute(model, "blk.1.moe", "gate_type").i = 2  # Q4_0: 256 values in the same 144 bytes
    found = failing(export, "weight types", "constants", "contracts")
    assert set(found) == {"weight types", "constants"}
    assert "taken for Q4_0 -> Q4_K" in found["weight types"]


def test_a_norms_scale_of_the_wrong_element_type(export: ExportFolder) -> None:
    with export.graph() as model:
        scale = tensor(model, "blk.0.attn_norm.weight")
        scale.data_type = TensorProto.FLOAT16
        scale.dims[0] *= 2
    found = failing(export, "contracts", "constants")
    assert set(found) == {"contracts", "constants"}
    assert "is FLOAT16 -> FLOAT" in found["contracts"]


def test_a_routers_scale_of_the_wrong_attribute_type(export: ExportFolder) -> None:
    with export.graph() as model:
        scale = attribute(model, "blk.0.route", "scale")
        scale.CopyFrom(onnx.helper.make_attribute("scale", 1))
    assert "attribute scale is INT -> FLOAT" in failing(export, "contracts")["contracts"]


def test_a_transposed_expert_stack(export: ExportFolder) -> None:
    with export.graph() as model:
        stack = tensor(model, "blk.1.ffn_down_exps.weight")
        stack.dims[0], stack.dims[1] = stack.dims[1], stack.dims[0]
    found = failing(export, "external references", "weight types", "constants")
    assert set(found) == {"weight types", "constants"}
    assert "is [256, 16, 144] -> [16, 256, 144]" in found["weight types"]


def test_a_stale_weight_file_beside_a_rebuilt_graph(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(seed=1))
    build(tmp_path / "m.gguf", tmp_path / "m.onnx", BuildOptions(progress=False))
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(seed=1, mixture="Q8_0"))
    export = ExportFolder(tmp_path / "m.onnx", tmp_path / "m.gguf", tmp_path / "m.gguf")
    found = failing(export, "source files", "tensor table")
    assert set(found) == {"source files", "tensor table"}
    assert "not the file that the graph was built from" in found["source files"]


def test_a_stale_file_with_the_same_header_needs_the_gguf(tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / f"{seed}").mkdir()
        write_synthetic(tmp_path / f"{seed}" / "m.gguf", SyntheticSpec(seed=seed))
    new, stale = (tmp_path / f"{seed}" / "m.gguf" for seed in (1, 2))
    build(new, tmp_path / "out" / "m.onnx", BuildOptions(progress=False))
    (tmp_path / "out" / "m.gguf").unlink()
    shutil.copyfile(stale, tmp_path / "out" / "m.gguf")
    export = ExportFolder(tmp_path / "out" / "m.onnx", tmp_path / "out" / "m.gguf", new)
    assert "bytes differ" in failing(export, "weight bytes", source=True)["weight bytes"]


def test_a_stale_manifest_beside_a_rebuilt_graph(export: ExportFolder) -> None:
    text = (export.path.parent / "ferrum.json").read_text()
    (export.path.parent / "ferrum.json").write_text(text.replace('"bytes": 10027584', '"bytes": 1'))
    assert "ferrum.json" in failing(export, "manifest")["manifest"]


def test_a_missing_shard(tmp_path: Path) -> None:
    first, second = write_synthetic(tmp_path / "m.gguf", SyntheticSpec(shards=2))
    build(first, tmp_path / "m.onnx", BuildOptions(progress=False))
    second.unlink()
    export = ExportFolder(tmp_path / "m.onnx", first, first)
    findings = export.findings()
    assert f"{second.name}: missing" in findings["external references"].found
    assert findings["source files"].status == "fail"
    assert findings["wiring"].status == "skip"
    assert "missing" in findings["wiring"].found
    assert findings["logits"].status == "fail"


def test_a_truncated_weight_file(export: ExportFolder) -> None:
    with export.weights.open("r+b") as file:
        file.truncate(9_000_000)
    found = failing(export, "external references", "source files")
    assert set(found) == {"external references", "source files"}


def test_a_wrong_rope_base(export: ExportFolder) -> None:
    with export.graph() as model:
        wrong = (1e4 ** (-np.arange(32) / 32)).astype(np.float32)
        tensor(model, "inv_freq").CopyFrom(numpy_helper.from_array(wrong, "inv_freq"))
    found = failing(export, "constants", "config", "wiring", "contracts")
    assert set(found) == {"constants"}
    assert "inv_freq[1]" in found["constants"]


def test_a_wrong_rope_base_that_the_config_agrees_with(export: ExportFolder) -> None:
    with export.graph() as model:
        wrong = (1e4 ** (-np.arange(32) / 32)).astype(np.float32)
        tensor(model, "inv_freq").CopyFrom(numpy_helper.from_array(wrong, "inv_freq"))
        for entry in model.metadata_props:
            entry.value = entry.value.replace('"rope_base": 1000000.0', '"rope_base": 10000.0')
    assert "rope_base 10000.0 -> 1000000.0" in failing(export, "config")["config"]


def test_a_bad_block_size(export: ExportFolder) -> None:
    with export.graph() as model:
        tensor(model, GATE).dims[2] -= 4
    found = failing(export, "external references", "weight types", "shape inference")
    assert {"external references", "weight types"} <= set(found)
    assert "rows of 256 Q4_K values" in found["weight types"]


def test_a_misspelt_attribute(export: ExportFolder) -> None:
    with export.graph() as model:
        attribute(model, "blk.2.attention", "kv_num_heads").name = "kv_num_head"
    found = failing(export, "contracts", "placement")
    assert "attribute kv_num_heads missing" in found["contracts"]
    assert "placement" in found  # the library refuses it too


@pytest.mark.parametrize(
    ("node_name", "name", "value"),
    [("blk.0.attention", "num_heads", 4), ("blk.0.route", "k", 3),
     ("blk.0.norm_2", "epsilon", 1e-3), ("blk.0.attention", "scale", 0.25),
     ("blk.0.attention", "rope_scale", 2.0)],
)  # fmt: skip
def test_a_constant_that_is_not_the_configs(
    export: ExportFolder, node_name: str, name: str, value: float
) -> None:
    with export.graph() as model:
        item = attribute(model, node_name, name)
        item.CopyFrom(onnx.helper.make_attribute(name, value))
    assert f"{node_name}: {name} {value:g} -> " in failing(export, "constants")["constants"]


def test_a_layer_that_lacks_a_node(export: ExportFolder) -> None:
    with export.graph() as model:
        model.graph.node.remove(node(model, "blk.3.norm_2"))
    found = failing(export, "node counts", "wiring", "onnx checker")
    assert set(found) == {"node counts", "wiring", "onnx checker"}
    assert "blk.3: 1 AddRMSNorm -> 2" in found["node counts"]


def test_an_op_without_its_body(export: ExportFolder) -> None:
    with export.graph() as model:
        model.functions.remove(next(f for f in model.functions if f.name == "RouteTopK"))
    assert "RouteTopK: no reference body" in failing(export, "reference bodies").values()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("offset", 10_000_000, "inside"), ("offset", 1_000_000, "overlaps"), ("length", 7, "7 bytes"),
     ("location", "../m.gguf", "own folder"), ("location", "other.gguf", "missing")],
)  # fmt: skip
def test_a_reference_that_leads_astray(
    export: ExportFolder, key: str, value: int | str, says: str
) -> None:
    with export.graph() as model:
        place(tensor(model, GATE), key, value)
    assert says in failing(export, "external references")["external references"]


def test_an_opset_beyond_the_oldest_runtime(export: ExportFolder) -> None:
    with export.graph() as model:
        model.opset_import[0].version = 23
        model.ir_version = 11
    found = failing(export, "versions")["versions"]
    assert "IR version 11" in found
    assert "opset 23" in found


def test_a_functions_opset_beyond_the_oldest_runtime(export: ExportFolder) -> None:
    with export.graph() as model:
        next(e for e in model.functions[0].opset_import if e.domain in ("", "ai.onnx")).version = 99
    assert "opset 99" in failing(export, "versions")["versions"]


def test_a_tensor_that_the_graph_leaves_out(export: ExportFolder) -> None:
    with export.graph() as model:
        tensor(model, GATE).name = "nothing"
    found = failing(export, "tensor table")
    assert f"{GATE}: in the file, but not in the graph" in found["tensor table"]


def test_a_context_longer_than_the_models(export: ExportFolder) -> None:
    with export.graph() as model:
        for entry in model.metadata_props:
            entry.value = re.sub(r'"context_length": \d+', '"context_length": 9999999', entry.value)
    assert "context_length 9999999" in failing(export, "config")["config"]


def test_a_check_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel QuantMoE"):
        checks(CheckOptions(only=("kernal QuantMoE",)))
