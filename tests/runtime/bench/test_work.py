"""The work of a step, against figures counted by hand from the shapes of Qwen3-30B-A3B."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import PRESETS, SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.work import Work, work_of

H, Q, KV, F, V, E, USED = 2048, 4096, 512, 768, 151936, 128, 8
Q4, Q6 = 144 / 256, 210 / 256  # bytes per weight
KV_BYTES = 2 * KV * 2  # of one layer, float16


def work(folder: Path, spec: SyntheticSpec) -> Work:
    """Of an export whose weights are holes: no disk, whatever its size."""
    write_synthetic(folder / "m.gguf", replace(spec, sparse=True))
    build(folder / "m.gguf", folder / "out" / "m.onnx", BuildOptions())
    return work_of(folder / "out" / "m.onnx", spec.layers * KV_BYTES)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Work]:
    """Qwen3-30B-A3B in Q4_K_M, of 4 and of all 48 layers."""
    return {
        layers: work(
            tmp_path_factory.mktemp(f"{layers}"), replace(PRESETS["qwen3-30b-a3b"], layers=layers)
        )
        for layers in (4, 48)
    }


def layer_bytes(better: bool) -> tuple[float, float]:
    """(dense, one expert) of a layer; better: attn_v and ffn_down are Q6_K."""
    rest = Q6 if better else Q4
    attention = (Q * H + KV * H + H * Q) * Q4 + KV * H * rest
    router_and_norms = 4 * (H * E + 2 * H + 2 * 128)
    return attention + router_and_norms, 2 * H * F * Q4 + F * H * rest


@pytest.mark.parametrize(("layers", "megabytes"), [(4, 394.0), (48, 1919.6)])
def test_bytes_of_a_decoded_token(full: dict[int, Work], layers: int, megabytes: float) -> None:
    plain, better = layer_bytes(better=False), layer_bytes(better=True)
    half = layers // 2  # so many layers of either kind
    by_hand = half * (plain[0] + better[0] + USED * (plain[1] + better[1])) + V * H * Q6 + 4 * H
    found = full[layers]
    empty = Case("decode", 1, 1, 0, 1)
    weights = found.decode_bytes(empty) - found.kv_bytes  # the token itself is read back too
    assert weights == pytest.approx(by_hand + H * Q4, rel=1e-12)  # and a row of the embedding
    assert weights / 1e6 == pytest.approx(megabytes, abs=0.05)


def test_experts_on_the_cpu_are_the_same_work(tmp_path: Path) -> None:
    spec = SyntheticSpec(layers=2)
    found = []
    for layers in (0, 1):
        (tmp_path / f"{layers}").mkdir()
        write_synthetic(tmp_path / f"{layers}" / "m.gguf", spec)
        path = tmp_path / f"{layers}" / "m.onnx"
        build(path.with_suffix(".gguf"), path, BuildOptions(cpu_experts=layers))
        found.append(work_of(path, KV_BYTES))
    assert found[0] == found[1]


def test_caches_are_read_over_the_average_of_the_steps(full: dict[int, Work]) -> None:
    short, long = Case("decode", 1, 1, 0, 1), Case("decode", 9, 1, 4096, 1)
    beyond = full[48].decode_bytes(long) - full[48].decode_bytes(short)
    assert beyond == 98304 * (4096 + 4)  # 9 steps see 4097 to 4105 tokens


def test_batches_read_the_experts_that_are_expected_to_differ(full: dict[int, Work]) -> None:
    found = full[4]
    assert found.experts_read(1) == pytest.approx(8)
    assert found.experts_read(4) == pytest.approx(128 * (1 - (15 / 16) ** 4))
    assert found.experts_read(4) == pytest.approx(29.1, abs=0.05)
    one, four = (found.decode_bytes(Case("decode", 1, n, 0, 1)) for n in (1, 4))
    more_experts = (found.experts_read(4) - 8) * found.expert_bytes
    assert four - one == pytest.approx(more_experts + 3 * (found.kv_bytes + 1152))


def test_products_of_a_prompt(full: dict[int, Work]) -> None:
    dense = H * Q + 2 * H * KV + Q * H
    int8 = 48 * (dense + USED * 3 * H * F)
    assert int8 == pytest.approx(2.718e9, rel=1e-3)
    found_int8, found_float32 = full[48].prefill_macs(Case("prefill", 128, 1, 0, 2))
    assert found_int8 == 128 * int8 + H * V  # the head once, for the last token
    attention = 393_216 * 128 * 129 / 2
    assert found_float32 == 128 * 48 * H * E + attention


def test_prompts_of_a_batch_add_up(full: dict[int, Work]) -> None:
    one, three = (full[4].prefill_macs(Case("prefill", 64, n, 0, 1)) for n in (1, 3))
    assert three == (3 * one[0], 3 * one[1])


def test_float_types_count_as_float32_and_tied_heads_are_read(tmp_path: Path) -> None:
    spec = SyntheticSpec(mixture="F16", tied=True)
    found = work(tmp_path, spec)
    head = spec.hidden * spec.vocab
    assert (found.int8_macs, found.head_macs, found.head_is_int8) == (0, head, False)
    assert found.prefill_macs(Case("prefill", 1, 1, 0, 1))[0] == 0
    assert found.dense_bytes > 2 * head
