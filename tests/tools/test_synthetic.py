"""Synthetic models are sound GGUFs that look like what llama.cpp writes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf.quants
import numpy as np
import pytest
import synthetic
from gguf import GGMLQuantizationType, GGUFReader
from mixtures import FILE_TYPES
from synthetic import PRESETS, SyntheticSpec, write_synthetic
from tokenizers import Tokenizer

from ferrum.builder.gguf import GGUF
from ferrum.builder.tokenizer import read_tokenizer
from ferrum.custom_ops.quants import QUANTS

TINYCODE = SyntheticSpec(
    layers=4, heads=8, kv_heads=2, experts=16, experts_used=4, vocab=4096, context=1024
)
MODEL_TYPES = [quant.name for quant in QUANTS]


def test_names_shapes_order_and_offsets_are_those_of_llama_cpps_file(
    sample: Path, tmp_path: Path
) -> None:
    ours = GGUF.open(write_synthetic(tmp_path / "m.gguf", TINYCODE)[0]).tensors
    theirs = GGUF.open(sample).tensors
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert (ours[name].shape, ours[name].type) == (tensor.shape, tensor.type), name


def test_metadata_are_those_of_llama_cpps_file(sample: Path) -> None:
    ours, theirs = synthetic.model_metadata(TINYCODE), GGUF.open(sample).metadata
    optional = {"general.description", "general.license", "qwen3moe.vocab_size"}
    assert set(theirs) - set(ours) <= optional | {"tokenizer.ggml.eot_token_id"}
    for key, value in theirs.items():
        if key.startswith("qwen3moe") and key not in optional:
            assert ours[key] == pytest.approx(value), key


@pytest.mark.parametrize(
    "mixture",
    ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "MXFP4", "Q3_K_M", "Q2_K"],
)
def test_mixtures_are_llama_cpps(mixture: str, shared_data: Path) -> None:
    theirs = GGUF.open(shared_data / f"tinycode-{mixture}.gguf")
    for name, tensor in theirs.tensors.items():
        ours = synthetic.tensor_type(mixture, name, 4)
        assert ours == QUANTS.by_id(tensor.type).name, name
    assert FILE_TYPES[mixture] == theirs.metadata["general.file_type"]


def test_qwen3_30b_q4_k_m_has_the_bytes_of_the_real_file() -> None:
    """18.55 GB: what the dimensions and the mixture's rule give, as published files have it."""
    total = sum(tensor.nbytes for tensor in synthetic._tensors(PRESETS["qwen3-30b-a3b"]))
    assert round(total / 1e9, 2) == 18.55


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_weights_of_every_type_are_finite_and_of_ordinary_size(
    kind: str, real: bool, tmp_path: Path
) -> None:
    types = {"*": kind, "*norm.weight": "F32", "*gate_inp.weight": "F32"}
    spec = SyntheticSpec(layers=1, vocab=300, experts=2, types=types, real=real)
    reader = GGUFReader(write_synthetic(tmp_path / "m.gguf", spec)[0])
    for tensor in reader.tensors:
        if len(tensor.shape) == 1 or "gate_inp" in tensor.name:
            assert tensor.tensor_type == GGMLQuantizationType.F32
            continue
        assert tensor.tensor_type.name == kind
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all()
        assert abs(values.mean()) < 0.2 / 16
        assert 0.7 / 16 < values.std() < 1.4 / 16, "not about 1 / sqrt(columns)"


def test_experts_and_tensors_differ(tmp_path: Path) -> None:
    model = GGUF.open(write_synthetic(tmp_path / "m.gguf", SyntheticSpec(vocab=300))[0])
    seen = set()
    for name, tensor in model.tensors.items():
        if "_exps" in name:
            seen |= {expert.tobytes() for expert in tensor.read().reshape(8, -1)}
    assert len(seen) == 8 * 3 * 2


def test_the_seed_decides_the_bytes(tmp_path: Path) -> None:
    def written(seed: int) -> bytes:
        spec = SyntheticSpec(layers=1, vocab=300, seed=seed)
        return write_synthetic(tmp_path / "m.gguf", spec)[0].read_bytes()

    assert written(1) == written(1)
    assert written(1) != written(2)


def test_shards_hold_the_same_model(tmp_path: Path) -> None:
    spec = SyntheticSpec(layers=1, vocab=300)
    whole = GGUF.open(write_synthetic(tmp_path / "m.gguf", spec)[0])
    split = GGUF.open(write_synthetic(tmp_path / "m.gguf", replace(spec, shards=4))[2])
    assert len(split.files) == 4
    assert list(split.tensors) == list(whole.tensors)
    assert {k: str(v) for k, v in whole.metadata.items()}.items() <= {
        k: str(v) for k, v in split.metadata.items()
    }.items()


def test_overrides_reach_the_file(tmp_path: Path) -> None:
    spec = SyntheticSpec(
        layers=1,
        vocab=300,
        tied=True,
        rope_scaling="yarn",
        types={"*.ffn_gate_inp.weight": "Q8_0", "blk.0.attn_q.*": "IQ2_S"},
        metadata={"qwen3moe.expert_weights_norm": True, "general.name": None},
        shapes={"output_norm.weight": None, "blk.0.attn_norm.weight": (128,)},
    )
    model = GGUF.open(write_synthetic(tmp_path / "m.gguf", spec)[0])
    types = {name: QUANTS.by_id(tensor.type).name for name, tensor in model.tensors.items()}
    assert "output.weight" not in types
    assert "output_norm.weight" not in types
    assert types["blk.0.ffn_gate_inp.weight"] == "Q8_0"
    assert types["blk.0.attn_q.weight"] == "IQ2_S"
    assert model.tensors["blk.0.attn_norm.weight"].shape == (128,)
    assert model.metadata["qwen3moe.rope.scaling.type"] == "yarn"
    assert model.metadata["qwen3moe.rope.scaling.original_context_length"] == 128
    assert model.metadata["qwen3moe.expert_weights_norm"] is True
    assert "general.name" not in model.metadata


def test_rows_that_are_not_whole_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"blk\.0\.attn_output\.weight: row of 128 values"):
        write_synthetic(tmp_path / "m.gguf", SyntheticSpec(heads=2, kv_heads=1))


def test_the_tokenizer_encodes_and_decodes(tmp_path: Path) -> None:
    spec = SyntheticSpec(layers=1, vocab=3000, padding_tokens=10)
    read = read_tokenizer(GGUF.open(write_synthetic(tmp_path / "m.gguf", spec)[0]))
    loaded = Tokenizer.from_str(read.tokenizer_json)
    text = "<|im_start|>user\nwhat is 2 + 2?<|im_end|>\n"
    ids = loaded.encode(text).ids
    assert len(ids) < len("user\nwhat is 2 + 2?\n") + 2, "no merge was used"
    assert loaded.decode(ids, skip_special_tokens=False) == text
    assert read.eos == (2989, 2987)


def test_the_command_line_writes_the_file_it_names(tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"
    command = [
        sys.executable, synthetic.__file__, out, "--layers", "1", "--vocab", "300", "--tied",
        "--mixture", "IQ4_XS", "--type", "*.ffn_gate_inp.weight=BF16", "--rope-scaling", "linear",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"{out}: {out.stat().st_size:,} bytes\n"
    model = GGUF.open(out)
    assert model.metadata["qwen3moe.rope.scaling.type"] == "linear"
    assert QUANTS.by_id(model.tensors["blk.0.ffn_gate_inp.weight"].type).name == "BF16"
