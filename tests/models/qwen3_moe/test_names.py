"""The tensors of a file are the model's, each of its shape."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import model_config
from ferrum.builder.gguf import GGUF
from ferrum.models.qwen3_moe.config import ModelError
from ferrum.models.qwen3_moe.names import expected_tensors


def read(folder: Path, **shapes: tuple[int, ...] | None) -> None:
    names = {key.replace("__", "."): value for key, value in shapes.items()}
    write_synthetic(folder / "m.gguf", SyntheticSpec(shapes=names))
    model_config(GGUF.open(folder / "m.gguf"), None)


def test_a_sound_file_has_exactly_the_expected_tensors(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf")
    gguf = GGUF.open(tmp_path / "m.gguf")
    wanted = dict(expected_tensors(model_config(gguf, None)))
    assert {name: tuple(t.shape) for name, t in gguf.tensors.items()} == wanted


def test_a_missing_head_means_tied_embeddings(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "m.gguf", SyntheticSpec(tied=True))
    assert model_config(GGUF.open(tmp_path / "m.gguf"), None).tied_embeddings


def test_a_missing_tensor_is_named_with_its_shape(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"blk\.1\.attn_k\.weight: missing -> shape \[256, 128\]"):
        read(tmp_path, blk__1__attn_k__weight=None)


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"attn_q\.weight: shape \[256, 512\] -> \[256, 256\]"):
        read(tmp_path, blk__0__attn_q__weight=(256, 512))


def test_an_expert_stack_with_another_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"ffn_up_exps.*\[256, 256, 4\] -> \[256, 256, 8\]"):
        read(tmp_path, blk__0__ffn_up_exps__weight=(256, 256, 4))


def test_a_router_for_another_number_of_experts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"ffn_gate_inp.*\[256, 16\] -> \[256, 8\]"):
        read(tmp_path, blk__0__ffn_gate_inp__weight=(256, 16))


def test_a_tensor_that_the_graph_would_leave_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"attn_q\.bias: not part of a 2-layer qwen3moe"):
        read(tmp_path, blk__0__attn_q__bias=(256,))


@pytest.mark.parametrize("name", ["two\nlines", "x" * 100_000, "ä"])
def test_an_odd_name_makes_a_short_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="not part of a 2-layer qwen3moe") as caught:
        read(tmp_path, **{f"blk.0.{name}.weight": (256,)})
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
