"""The line about models larger than the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.build import BuildOptions, build
from ferrum.runtime.artifact import Artifact
from ferrum.runtime.bench import streaming
from ferrum.runtime.bench.streaming import bytes_from_disk, disk_rate, streaming_notice
from ferrum.runtime.bench.work import Work
from ferrum.runtime.weight_pages import WeightPages

GIB = 1 << 30
WORK = Work(
    dense_bytes=100, expert_bytes=10, embedding_bytes=1, experts=64, experts_used=8, int8_macs=0,
    float32_macs=0, head_macs=0, head_is_int8=True, attention_macs=0, kv_bytes=0,
)  # fmt: skip
SIZE = 100 + 64 * 10


@pytest.mark.parametrize(
    ("room", "missing"),
    [
        (SIZE, 0),
        (100 + 320, 40),  # half of the experts
        (100 + 480, 20),
        (100, 80),
        (60, 40 + 80),  # even of what every token reads
    ],
)
def test_a_token_misses_its_share_of_the_experts(room: int, missing: float) -> None:
    assert bytes_from_disk(WORK, WeightPages(SIZE, room)) == pytest.approx(missing)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("streamed")
    write_synthetic(folder / "m.gguf", SyntheticSpec(layers=1))
    build(folder / "m.gguf", folder / "out" / "m.onnx", BuildOptions())
    return Artifact.open(folder / "out" / "m.onnx")


def test_what_fits_is_not_spoken_of(artifact: Artifact) -> None:
    assert streaming_notice(artifact, WeightPages(GIB, GIB)) is None


def test_the_line_says_how_much_there_is_and_how_fast_that_can_be(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "disk_rate", lambda _: 2e9)
    size = sum(path.stat().st_size for path in artifact.weights)
    notice = streaming_notice(artifact, WeightPages(size, size // 2))
    assert notice is not None
    assert "\n" not in notice
    assert "GiB of weights, room for" in notice
    assert "at its 2.0 GB/s" in notice


def test_without_a_rate_it_says_the_rest(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "disk_rate", lambda _: None)
    notice = streaming_notice(artifact, WeightPages(4 * GIB, GIB))
    assert notice is not None
    assert notice.startswith("4.0 GiB of weights, room for 1.0 GiB")
    assert "tokens/s" not in notice


def test_a_disk_s_rate_is_measured_where_it_can_be(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(1000))
    large.write_bytes(bytes(64 << 20))
    assert disk_rate([small], 0.01) is None
    for seconds in (0.05, 0):  # of which a busy machine may not give the readers any
        rate = disk_rate([small, large], seconds)
        assert rate is None or rate > 0  # None where the file system has no reads past the cache
