"""Experts of some layers on the CPU, everything else on a GPU: as ferrum-inspect says it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from cuda_stub_log import Log

from ferrum.builder.check.export import Export
from ferrum.builder.cli import main as build
from ferrum.builder.transfers import Transfers, transfers
from ferrum.runtime import cuda
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.session import Session
from ferrum.runtime.settings import Settings, SettingsError

GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
LAYERS = 4
SMALL: dict[str, Any] = {"device": "cuda", "threads": 1, "kv_capacity": 2048}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Callable[..., Path]:
    """Exports of the sample with the experts of so many layers on the CPU."""

    def export(layers: int, dtype: str = "f32") -> Path:
        output = tmp_path_factory.mktemp(f"{layers}") / "m.onnx"
        options = ["--weights", "copy", "--quiet", "--cpu-experts", str(layers), "--dtype", dtype]
        assert build([str(sample), str(output), *options]) == 0
        return output

    return export


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ort.InferenceSession]:
    """The sessions made, each graph as it runs in `<number>.onnx` of the test's folder."""
    made: list[ort.InferenceSession] = []
    inference_session = ort.InferenceSession

    def recording(model: Any, options: ort.SessionOptions, **given: Any) -> ort.InferenceSession:
        options.optimized_model_filepath = str(tmp_path / f"{len(made)}.onnx")
        made.append(inference_session(model, options, **given))
        return made[-1]

    monkeypatch.setattr(cuda.ort, "InferenceSession", recording)
    return made


def crossing(path: Path) -> Transfers:
    found = transfers(Export(path))
    assert found is not None
    return found


@pytest.mark.parametrize("layers", [1, 3, LAYERS])
def test_these_experts_are_on_the_cpu_and_copies_are_those_that_inspect_counts(
    split: Callable[[int], Path],
    layers: int,
    recorded: list[ort.InferenceSession],
    tmp_path: Path,
) -> None:
    path = split(layers)
    with LLM(path, **SMALL) as llm:
        result = llm.generate([1, 2, 3], SamplingParams(max_tokens=3, ignore_eos=True))[0]
    assert len(result.token_ids) == 3
    placed = {
        (node.name, node.op_type): part.ep_name
        for part in recorded[0].get_provider_graph_assignment_info()
        for node in part.get_nodes()
    }
    on_cpu = {(f"blk.{i}.moe", "HostQuantMoE") for i in range(layers)}
    assert {node for node, where in placed.items() if where == CPU} == on_cpu
    assert {where for node, where in placed.items() if node not in on_cpu} == {GPU}
    running = onnx.load(tmp_path / "0.onnx", load_external_data=False)
    kinds = Counter(node.op_type for node in running.graph.node)
    expected = crossing(path)
    assert kinds["MemcpyToHost"] == len(expected.down.values) == 3 * layers
    assert kinds["MemcpyFromHost"] == len(expected.up.values) == layers


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_a_step_copies_the_bytes_that_inspect_counts(
    split: Callable[..., Path], dtype: str, log: Log
) -> None:
    plain, path = split(0, dtype), split(2, dtype)

    def copied(model: Path, tokens: int) -> tuple[Counter[int], Counter[int]]:
        """Sizes of a step's copies, up and down."""
        session = Session.open(model, Settings(**{**SMALL, "cuda_graphs": False}))
        session.prefill("warm-up", [1] * tokens)
        log.clear()
        session.prefill("a", [1] * tokens)
        return tuple(
            Counter(
                int(words[3])
                for words in map(str.split, log.lines())
                if words[0] == "memcpy" and words[2] == kind
            )
            for kind in ("1", "2")
        )  # type: ignore[return-value]

    expected = crossing(path)
    for tokens in (1, 5):
        (up, down), (up_plain, down_plain) = copied(path, tokens), copied(plain, tokens)
        for more, usual, wanted in (
            (up, up_plain, expected.up), (down, down_plain, expected.down)
        ):  # fmt: skip
            extra = more - usual
            assert extra.total() == len(wanted.values)
            assert sum(size * count for size, count in extra.items()) == (
                tokens * wanted.bytes_per_token
            )


def test_their_weights_never_go_to_the_gpu(split: Callable[[int], Path], log: Log) -> None:
    path = split(2)
    Session.open(path, Settings(**SMALL))
    words = [line.split() for line in log.lines()]
    uploaded = sum(int(w[3]) for w in words if w[0] == "memcpy" and w[2] == "1")
    assert 0 <= uploaded - crossing(path).gpu_bytes < 4096  # and the graph's own constants


def test_nothing_is_captured(split: Callable[[int], Path], log: Log) -> None:
    with LLM(split(1), **SMALL) as llm:
        llm.generate([[1, 2], [3]], SamplingParams(max_tokens=4, ignore_eos=True))
    assert log.launches > 0
    assert (log.count("graph_launch"), log.count("capture")) == (0, 0)


def test_another_node_on_the_cpu_is_refused_by_name(split: Callable[[int], Path]) -> None:
    path = split(1)
    model = onnx.load(path, load_external_data=False)
    head = next(node for node in model.graph.node if node.name == "lm_head")
    head.output[0] = "gpu_logits"
    # An op of which ONNX Runtime has no kernel for GPUs.
    stray = onnx.helper.make_node("Sinh", ["gpu_logits"], ["logits"], name="stray")
    model.graph.node.append(stray)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SettingsError, match=r"leave stray \(Sinh\) to the CPU") as caught:
        LLM(path, **SMALL)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_counts_otherwise_is_refused(split: Callable[[int], Path]) -> None:
    path = split(2)
    manifest = path.parent / "ferrum.json"
    for claimed, says in ((3, "the experts of 2 layers on the CPU, not 3"), (0, "leave nodes")):
        text = manifest.read_text()
        manifest.write_text(text.replace('"cpu_experts": 2', f'"cpu_experts": {claimed}'))
        with pytest.raises(SettingsError, match=says):
            LLM(path, **SMALL)
        manifest.write_text(text)


def test_values_can_be_traced(split: Callable[[int], Path]) -> None:
    with LLM(split(2), **SMALL, trace=("blk.0.moe", "blk.3.moe")) as llm:
        llm.generate([1, 2, 3], SamplingParams(max_tokens=2, ignore_eos=True))
        assert {array.shape[0] for array in llm.trace.arrays().values()} == {4}
