"""ferrum-build on models that are sound GGUFs but wrong: one line, exit code 2, no output."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import SyntheticSpec, model_metadata, write_synthetic

from ferrum.builder.cli import main

SPEC = SyntheticSpec(layers=1, vocab=300, experts=4, experts_used=2)
ARCH = "qwen3moe."


def metadata(**entries: Any) -> SyntheticSpec:
    return replace(SPEC, metadata={ARCH + key.replace("__", "."): entries[key] for key in entries})


def shapes(**entries: tuple[int, ...] | None) -> SyntheticSpec:
    return replace(SPEC, shapes={f"blk.0.{key}.weight": entries[key] for key in entries})


ATTACKS: dict[str, tuple[SyntheticSpec, str]] = {
    "other architecture": (
        replace(SPEC, metadata={"general.architecture": "llama"}),
        r"general\.architecture: 'llama' -> 'qwen3moe'",
    ),
    "no architecture": (
        replace(SPEC, metadata={"general.architecture": None}),
        r"general\.architecture: None -> 'qwen3moe'",
    ),
    "missing tensor": (shapes(attn_q=None), r"tensor blk\.0\.attn_q\.weight: missing"),
    "missing norm": (shapes(attn_q_norm=None), r"tensor blk\.0\.attn_q_norm\.weight: missing"),
    "missing embedding": (replace(SPEC, shapes={"token_embd.weight": None}), r"token_embd\.weight"),
    "misshapen": (shapes(attn_k=(256, 64)), r"attn_k\.weight: shape \[256, 64\] -> \[256, 128\]"),
    "transposed": (shapes(ffn_norm=(1, 256)), r"ffn_norm\.weight: shape \[1, 256\] -> \[256\]"),
    "rank": (shapes(ffn_up_exps=(256, 1024)), r"ffn_up_exps\.weight: shape \[256, 1024\] -> "),
    "a tensor too many": (shapes(attn_q__bias=(256,)), r"attn_q__bias\.weight.*: not part of"),
    "layers missing": (metadata(block_count=2), r"tensor blk\.1\..*: missing"),
    "layers too many": (
        replace(SPEC, layers=2, metadata={ARCH + "block_count": 1}),
        r"tensor blk\.1\..*: not part of a 1-layer qwen3moe",
    ),
    "experts disagree": (metadata(expert_count=8), r"shape \[256, 4\] -> \[256, 8\]"),
    "one tensor's experts disagree": (
        shapes(ffn_down_exps=(256, 256, 3)),
        r"ffn_down_exps\.weight: shape \[256, 256, 3\] -> \[256, 256, 4\]",
    ),
    "no experts": (metadata(expert_count=0), r"expert_count: 0 -> 1 to"),
    "no expert used": (metadata(expert_used_count=0), r"expert_used_count: 0 -> 1 to"),
    "more used than there are": (metadata(expert_used_count=5), r"expert_used_count: 5 -> at most"),
    "no expert width": (metadata(expert_feed_forward_length=None), r"length: missing -> a whole"),
    "layers absurd": (metadata(block_count=(1 << 32) - 1), r"block_count: 4294967295 -> 1 to"),
    "experts absurd": (metadata(expert_count=1 << 31), r"expert_count: 2147483648 -> 1 to"),
    "heads absurd": (metadata(attention__head_count=1 << 30), r"head_count: 1073741824 -> 1 to"),
    "head_dim odd": (metadata(attention__key_length=63), r"key_length: 63 -> an even number"),
    "heads uneven": (metadata(attention__head_count_kv=3), r"head_count: 4 -> a multiple of"),
    "heads as text": (metadata(attention__head_count="4"), r"head_count: '4' -> a whole number"),
    "heads per layer": (
        metadata(attention__head_count=np.array([4, 4], np.int32)),
        r"head_count: .* -> a whole number",
    ),
    "hidden 0": (metadata(embedding_length=0), r"embedding_length: 0 -> 1 to"),
    "epsilon": (metadata(attention__layer_norm_rms_epsilon=-1.0), r"epsilon: -1\.0 -> a positive"),
    "rope base": (metadata(rope__freq_base=math.nan), r"freq_base: nan -> a positive finite"),
    "rope scaling": (metadata(rope__scaling__type="dynamic"), r"type: 'dynamic' -> none, linear"),
    "rope factor": (metadata(rope__scaling__type="yarn"), r"factor: missing -> a number"),
    "tokenizer": (
        replace(SPEC, metadata={"tokenizer.ggml.pre": "weird"}),
        r"tokenizer\.ggml\.pre 'weird' -> one of",
    ),
    "eos": (
        replace(SPEC, metadata={"tokenizer.ggml.eos_token_id": 1 << 20}),
        r"eos_token_id 1048576 -> 0 to 299",
    ),
    "more tokens than rows": (
        replace(SPEC, shapes={"token_embd.weight": (256, 200), "output.weight": (256, 200)}),
        r"300 tokens -> at most the 200 rows of token_embd",
    ),
}


def refused(model: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that ferrum-build says; fails if it says more or leaves anything."""
    assert main([str(model), str(out / "m.onnx")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert not out.exists()
    return said.err


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_wrong_model_is_refused_in_one_line(
    attack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, message = ATTACKS[attack]
    (model,) = write_synthetic(tmp_path / "m.gguf", spec)
    line = refused(model, tmp_path / "out", capsys)
    assert line.startswith("ferrum-build: [m.gguf] ")
    assert re.search(message, line), line


def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = write_synthetic(tmp_path / "m.gguf", SPEC)
    raw = model.read_bytes()
    big_endian = raw[:4] + b"\0\0\0\3" + raw[8:]
    for damaged in (b"", b"PK\3\4" + raw[4:], raw[:5000], raw[:-1], big_endian):
        model.write_bytes(damaged)
        assert refused(model, tmp_path / "out", capsys).startswith("ferrum-build: [m.gguf] ")
    model.unlink()
    assert "[m.gguf] cannot be read: No such file" in refused(model, tmp_path / "out", capsys)


WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(0, (1 << 32) - 1), st.floats(width=32), st.text(),
    st.lists(st.text(), max_size=3), st.just(np.array([1, 2], np.int32)),
)  # fmt: skip


YARN = replace(SPEC, rope_scaling="yarn")
KEYS = [
    *sorted(model_metadata(YARN)),
    *(ARCH + key for key in ("expert_weights_norm", "expert_weights_scale", "rope.scale_linear")),
    *(ARCH + "rope." + key for key in ("dimension_count", "scaling.attn_factor")),
    *(ARCH + "rope.scaling." + key for key in ("yarn_beta_fast", "yarn_beta_slow")),
    "general.alignment", "split.count", "tokenizer.ggml.eot_token_id",
]  # fmt: skip


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=st.sampled_from(KEYS), value=WRONG)
def test_any_value_of_any_key_builds_or_is_refused(
    key: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = write_synthetic(tmp_path / "m.gguf", replace(YARN, metadata={key: value}))
    code = main([str(model), str(tmp_path / "out" / "m.onnx"), "--force", "--quiet"])
    said = capsys.readouterr()
    assert code in (0, 2)
    assert said.out == ""
    assert said.err.count("\n") == (1 if code else 0)
