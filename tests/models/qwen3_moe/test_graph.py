"""The graph has the promised inputs, outputs and nodes, and passes the checkers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build


def export(
    folder: Path,
    spec: SyntheticSpec,
    kv_dtype: str = "float16",
    cpu_experts: int = 0,
    dtype: str = "float32",
) -> onnx.ModelProto:
    write_synthetic(folder / "m.gguf", spec)
    options = BuildOptions(kv_dtype=kv_dtype, cpu_experts=cpu_experts, dtype=dtype)
    build(folder / "m.gguf", folder / "m.onnx", options)
    return onnx.load(folder / "m.onnx", load_external_data=False)


def shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(
    ("kv_dtype", "element"), [("float32", 1), ("float16", 10), ("bfloat16", 16)]
)
def test_inputs_and_outputs_are_those_that_the_paged_engine_binds(
    tmp_path: Path, kv_dtype: str, element: int
) -> None:
    model = export(tmp_path, SyntheticSpec(layers=2, kv_heads=2, head_dim=64), kv_dtype)
    found = {v.name: (v.type.tensor_type.elem_type, shape(v)) for v in model.graph.input}
    cache = (element, ["num_blocks", "block_size", 2, 64])
    assert found == {
        "input_ids": (7, ["num_tokens"]),
        "cumulative_sequence_lengths": (6, ["batch_size + 1"]),
        "past_sequence_lengths": (6, ["batch_size"]),
        "block_table": (6, ["batch_size", "max_num_blocks"]),
        **{f"past_key_values.{i}.{x}": cache for i in range(2) for x in ("key", "value")},
    }
    outputs = {v.name: (v.type.tensor_type.elem_type, shape(v)) for v in model.graph.output}
    assert outputs == {
        "logits": (1, ["batch_size", 512]),
        **{f"present.{i}.{x}": cache for i in range(2) for x in ("key", "value")},
    }


def test_every_layer_has_the_ops_of_the_design(tmp_path: Path) -> None:
    model = export(tmp_path, SyntheticSpec(layers=3))
    counts = Counter(node.op_type for node in model.graph.node if node.domain == "ferrum")
    assert counts == {
        "QuantGather": 1, "RMSNorm": 1, "QuantQKV": 3, "PagedAttention": 3, "RouteTopK": 3,
        "QuantMoE": 3, "QuantMatMul": 3 * 2 + 1, "AddRMSNorm": 3 * 2,
    }  # fmt: skip


DTYPES = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
FLOAT = 1


@DTYPES
def test_activations_have_the_type_that_was_asked_for(tmp_path: Path, dtype: str) -> None:
    """But for the embedding's rows, what chooses experts, and what makes the logits."""
    model = export(tmp_path, SyntheticSpec(layers=2), dtype=dtype)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    values = [*inferred.graph.value_info, *inferred.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    own = {"float16": 10, "bfloat16": 16}[dtype]
    for i in range(2):
        names = ["input", "q", "k", "v", "attention", "attention_output", "normed", "residual",
                 "moe"]  # fmt: skip
        assert {name: types[f"blk.{i}.{name}"] for name in names} == dict.fromkeys(names, own)
        assert types[f"blk.{i}.router_logits"] == types[f"blk.{i}.expert_weights"] == FLOAT
    assert types["embedding"] == types["final"] == types["logits"] == FLOAT
    assert types["blk.0.output"] == own
    routers = [node for node in model.graph.node if node.name.endswith(".router")]
    assert [node.op_type for node in routers] == ["QuantLogits", "QuantLogits"]
    casts = [node.name for node in model.graph.node if node.op_type == "Cast"]
    assert casts == [
        f"embedding.{dtype}", "blk.1.moe_last.float", "blk.1.residual_last.float",
    ]  # fmt: skip


@DTYPES
def test_inputs_and_outputs_are_those_of_float32(tmp_path: Path, dtype: str) -> None:
    spec = SyntheticSpec(layers=2)
    plain = export(tmp_path, spec).graph
    (tmp_path / "other").mkdir()
    other = export(tmp_path / "other", spec, dtype=dtype).graph
    assert list(other.input) == list(plain.input)
    assert list(other.output) == list(plain.output)


def test_float32_activations_need_no_cast(tmp_path: Path) -> None:
    model = export(tmp_path, SyntheticSpec(layers=2))
    assert not any(node.op_type == "Cast" for node in model.graph.node)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_experts_of_the_first_layers_can_stay_on_the_cpu(tmp_path: Path, layers: int) -> None:
    model = export(tmp_path, SyntheticSpec(layers=3), cpu_experts=layers)
    kinds = [node.op_type for node in model.graph.node if node.name.endswith(".moe")]
    assert kinds[:3] == ["HostQuantMoE"] * layers + ["QuantMoE"] * (3 - layers)
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)


@pytest.mark.parametrize("mixture", ["Q4_K_M", "MXFP4", "BF16", "IQ2_XS"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_checker_and_strict_shape_inference_pass(tmp_path: Path, mixture: str, dtype: str) -> None:
    export(tmp_path, SyntheticSpec(mixture=mixture), dtype=dtype)
    path = str(tmp_path / "m.onnx")
    onnx.checker.check_model(path, full_check=True)
    onnx.shape_inference.infer_shapes_path(path, str(tmp_path / "i.onnx"), strict_mode=True)


def test_a_tied_model_uses_the_embedding_twice_and_stores_it_once(tmp_path: Path) -> None:
    model = export(tmp_path, SyntheticSpec(tied=True))
    users = [n.name for n in model.graph.node if "token_embd.weight" in n.input]
    assert users == ["embed", "lm_head"]
    assert [i.name for i in model.graph.initializer].count("token_embd.weight") == 1


def test_expert_stacks_keep_their_three_dimensions(tmp_path: Path) -> None:
    model = export(tmp_path, SyntheticSpec(experts=8, expert_width=256, mixture="Q8_0"))
    dims = {i.name: list(i.dims) for i in model.graph.initializer}
    assert dims["blk.0.ffn_gate_exps.weight"] == [8, 256, 256 // 32 * 34]
    assert dims["blk.0.ffn_gate_inp.weight"] == [8, 256 * 4]
    assert dims["blk.0.attn_norm.weight"] == [256]
