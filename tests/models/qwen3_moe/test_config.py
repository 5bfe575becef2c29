"""Metadata become the right config, or one line that names the key."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from synthetic import SyntheticSpec, model_metadata

from ferrum.models.qwen3_moe.config import ModelError, Qwen3MoeConfig, read_config


def config(spec: SyntheticSpec | None = None, **changes: Any) -> Qwen3MoeConfig:
    """A tiny model's config; `changes` are keys without the prefix, None takes one out."""
    metadata = model_metadata(spec or SyntheticSpec())
    for key, value in changes.items():
        metadata["qwen3moe." + key.replace("__", ".")] = value
    kept = {key: value for key, value in metadata.items() if value is not None}
    return read_config(kept, vocabulary=512, tied_embeddings=False)


def test_head_dim_is_the_files_own_and_not_hidden_over_heads() -> None:
    found = config(SyntheticSpec(hidden=256, heads=8, head_dim=64))
    assert (found.hidden, found.heads, found.head_dim) == (256, 8, 64)


def test_head_dim_defaults_to_hidden_over_heads() -> None:
    found = config(
        SyntheticSpec(hidden=256, heads=4), attention__key_length=None, attention__value_length=None
    )
    assert found.head_dim == 64


def test_qwen3_normalizes_unless_the_file_says_otherwise() -> None:
    assert config().normalize_expert_weights
    assert not config(expert_weights_norm=False).normalize_expert_weights


def test_an_expert_weights_scale_of_zero_means_none() -> None:
    assert config(expert_weights_scale=0.0).expert_weights_scale == 1.0
    assert config(expert_weights_scale=2.5).expert_weights_scale == 2.5


def test_inv_freq_without_scaling_falls_geometrically_from_one() -> None:
    found = config(rope__freq_base=1e6).inv_freq()
    np.testing.assert_allclose(found, 1e6 ** (-np.arange(32) / 32), rtol=1e-6)
    assert found.dtype == np.float32


def test_linear_scaling_divides_every_angle() -> None:
    plain, scaled = config(), config(SyntheticSpec(rope_scaling="linear", rope_factor=4.0))
    np.testing.assert_allclose(scaled.inv_freq(), plain.inv_freq() / 4, rtol=1e-6)
    assert scaled.rope_scale == 1.0


def test_yarn_keeps_fast_pairs_divides_slow_ones_and_warms_attention() -> None:
    """The values that Qwen3's 128k files give: factor 4 over 32,768, head_dim 128, base 1e6."""
    spec = SyntheticSpec(
        head_dim=128, rope_base=1e6, rope_scaling="yarn", rope_factor=4.0, context=131072
    )
    found = config(spec)
    plain = 1e6 ** (-np.arange(64) / 64)
    ratio = found.inv_freq() / plain
    # A pair turns 32 times in the context at index 23.6, once at 39.7: the ramp lies between.
    turns = 32768 * plain / (2 * math.pi)
    np.testing.assert_allclose(ratio[turns > 33], 1.0, rtol=1e-6)
    np.testing.assert_allclose(ratio[turns < 0.95], 0.25, rtol=1e-6)
    middle = ratio[24:40]
    assert ((middle > 0.25) & (middle < 1)).all()
    assert (np.diff(middle) < 0).all()
    np.testing.assert_allclose(ratio[30], 1 - 0.75 * (30 - 23) / (40 - 23), rtol=1e-6)
    assert found.rope_scale == pytest.approx(0.1 * math.log(4) + 1)


def test_an_attention_factor_multiplies_yarns_own() -> None:
    own = 0.1 * math.log(4) + 1
    for given in (1.0, 1.5):
        found = config(SyntheticSpec(rope_scaling="yarn"), rope__scaling__attn_factor=given)
        assert found.rope_scale == pytest.approx(given * own)


@pytest.mark.parametrize("kind", ["none", "linear", None])
def test_an_attention_factor_counts_without_yarn(kind: str | None) -> None:
    found = config(rope__scaling__type=kind, rope__scaling__factor=0.0,
                   rope__scaling__attn_factor=1.5)  # fmt: skip
    assert found.rope_scale == 1.5
    np.testing.assert_array_equal(found.inv_freq(), config().inv_freq())


@pytest.mark.parametrize("kind", ["linear", "yarn", None])
def test_a_factor_of_zero_scales_nothing(kind: str | None) -> None:
    found = config(rope__scaling__type=kind, rope__scaling__factor=0.0,
                   rope__scaling__attn_factor=1.0)  # fmt: skip
    assert found.rope_scaling is None


def test_a_factor_without_a_type_is_linear() -> None:
    typed = config(rope__scaling__type="linear", rope__scaling__factor=4.0)
    assert config(rope__scaling__factor=4.0) == typed
    assert config(rope__scale_linear=4.0) == typed
    np.testing.assert_allclose(typed.inv_freq(), config().inv_freq() / 4, rtol=1e-6)


def test_yarn_without_an_original_context_was_trained_on_the_whole_one() -> None:
    spec = SyntheticSpec(rope_scaling="yarn", context=512)
    for original in (None, 0):
        found = config(spec, rope__scaling__original_context_length=original)
        assert found.rope_scaling is not None
        assert found.rope_scaling.original_context == 512


@pytest.mark.parametrize(
    ("key", "value"),
    [("yarn_ext_factor", 1.0), ("yarn_ext_factor", -1.0), ("yarn_attn_factor", 1.0),
     ("yarn_attn_factor", 1.1386294361)],
)  # fmt: skip
def test_yarn_may_be_told_what_it_does_anyway(key: str, value: float) -> None:
    spec = SyntheticSpec(rope_scaling="yarn")
    assert config(spec, **{f"rope__scaling__{key}": value}) == config(spec)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("yarn_ext_factor", 0.5, r"yarn_ext_factor: 0\.5 -> 1 or -1"),
        ("yarn_attn_factor", 1.5, r"yarn_attn_factor: 1\.5 -> 1, or 1\.13863 as a factor of 4"),
    ],
)
def test_what_yarn_cannot_be_told_is_refused(key: str, value: float, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config(SyntheticSpec(rope_scaling="yarn"), **{f"rope__scaling__{key}": value})


@pytest.mark.parametrize(
    ("key", "value"), [("yarn_beta_fast", 1e308), ("yarn_beta_slow", 1e-320), ("factor", 1e-320)]
)
def test_a_number_beyond_float32_is_refused(key: str, value: float) -> None:
    with pytest.raises(ModelError, match=rf"{key}: \S+ -> a positive finite number, 1e-30 to"):
        config(SyntheticSpec(rope_scaling="yarn"), **{f"rope__scaling__{key}": value})


@pytest.mark.parametrize("value", [1e-30, 1e30])
@pytest.mark.parametrize("key", ["yarn_beta_fast", "yarn_beta_slow", "factor", "attn_factor"])
def test_any_number_that_is_taken_gives_finite_angles(key: str, value: float) -> None:
    found = config(SyntheticSpec(rope_scaling="yarn"), **{f"rope__scaling__{key}": value})
    assert np.isfinite(found.inv_freq()).all()
    assert np.isfinite(np.float32(found.rope_scale))


def test_a_name_that_is_not_utf_8_can_be_told_in_json() -> None:
    metadata = model_metadata(SyntheticSpec())
    metadata["general.name"] = b"tiny\xff".decode("utf-8", "surrogateescape")
    assert read_config(metadata, 512, tied_embeddings=False).name == "tiny\ufffd"


def test_a_model_that_llama_cpp_saved_is_as_it_was() -> None:
    """It writes every key it knows, most with what says nothing of this architecture."""
    saved = config(
        rope__scaling__type="linear", rope__scaling__factor=0.0, rope__scaling__attn_factor=1.0,
        rope__scaling__original_context_length=512, rope__scaling__yarn_log_multiplier=0.0,
        rope__dimension_count=64, expert_gating_func=0, expert_weights_scale=0.0,
        expert_shared_count=0, leading_dense_block_count=0, attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0, attention__sliding_window=0,
    )  # fmt: skip
    assert saved == config()


def test_a_window_as_long_as_the_context_hides_nothing() -> None:
    assert config(attention__sliding_window=512) == config()


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ModelError, match=r"general\.architecture: 'llama' -> 'qwen3moe'"):
        read_config({"general.architecture": "llama"}, 512, tied_embeddings=False)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("expert_count", 0, r"expert_count: 0 -> 1 to 4096"),
        ("expert_count", 1 << 30, r"expert_count: 1073741824 -> 1 to"),
        ("block_count", None, r"block_count: missing -> a whole number"),
        ("block_count", "four", r"block_count: 'four' -> a whole number"),
        ("block_count", 1 << 31, r"block_count: 2147483648 -> 1 to 1024"),
        ("expert_used_count", 99, r"expert_used_count: 99 -> at most expert_count 8"),
        ("attention.key_length", 63, r"key_length: 63 -> an even number"),
        ("attention.value_length", 32, r"value_length: 32 -> 64, as"),
        ("attention.head_count_kv", 3, r"head_count: 4 -> a multiple of .*kv 3"),
        ("attention.layer_norm_rms_epsilon", float("nan"), r"epsilon: nan -> a positive finite"),
        ("attention.layer_norm_rms_epsilon", 1e300, r"epsilon: 1e\+300 -> a .*, 1e-30 to 1e\+30"),
        ("expert_weights_scale", 1e300, r"weights_scale: 1e\+300 -> a positive finite"),
        ("rope.scaling.attn_factor", 1e300, r"attn_factor: 1e\+300 -> a positive finite"),
        ("rope.freq_base", 1 << 2000, r"freq_base: 1148130\S*\.\.\. -> a positive finite"),
        ("rope.freq_base", 0.0, r"rope\.freq_base: 0\.0 -> a positive"),
        ("rope.freq_base", 1.0, r"rope\.freq_base: 1\.0 -> more than 1"),
        ("rope.dimension_count", 32, r"dimension_count: 32 -> 64"),
        ("rope.scaling.type", "longrope", r"scaling\.type: 'longrope' -> none, linear or yarn"),
        ("expert_gating_func", 2, r"expert_gating_func: 2 -> 0 or 1"),
        ("attn_logit_softcapping", 20.0, r"attn_logit_softcapping: 20\.0 -> 0 or 50"),
        ("final_logit_softcapping", 15.0, r"final_logit_softcapping: 15\.0 -> 0 or 30"),
        ("attention.sliding_window", 128, r"sliding_window: 128 -> 0"),
        ("attention.sliding_window", [1], r"sliding_window: \[1\] -> 0"),
        ("attention.sliding_window", float("nan"), r"sliding_window: nan -> 0"),
        ("rope.scaling.factor", np.array([1, 2]), r"scaling\.factor: .* -> a number"),
        ("expert_shared_count", 1, r"expert_shared_count: 1 -> 0"),
        ("leading_dense_block_count", 1, r"leading_dense_block_count: 1 -> 0"),
        ("expert_weights_norm", 1, r"expert_weights_norm: 1 -> true or false"),
        ("expert_weights_scale", -1.0, r"expert_weights_scale: -1\.0 -> a positive"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(key: str, value: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        config(**{key.replace(".", "__"): value})
    assert "\n" not in str(caught.value)
