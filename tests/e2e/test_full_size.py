"""A model of 30 billion parameters is built in little memory and takes no disk of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import pytest
from synthetic import PRESETS, write_synthetic

from ferrum.builder.gguf import GGUF


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3-30B-A3B's dimensions and Q4_K_M's types, 18.56 GB, all holes."""
    path = tmp_path_factory.mktemp("full") / "model.gguf"
    (written,) = write_synthetic(path, replace(PRESETS["qwen3-30b-a3b"], sparse=True))
    assert round(written.stat().st_size / 1e9, 2) == 18.56
    return written


@dataclass(frozen=True)
class Built:
    folder: Path
    peak_mb: float


@pytest.fixture(scope="module", params=["beside", "elsewhere"])
def built(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """The model built in its own folder, and in another of the same file system."""
    folder = model.parent if request.param == "beside" else tmp_path_factory.mktemp("out")
    # The high-water mark of the process itself: the kernel's resource usage of a child also counts
    # what its parent had in memory when it was started.
    script = (
        "import re; from pathlib import Path; from ferrum.builder.cli import main; done = main();"
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text());"
        "print(done, peak[1])"
    )
    command = [sys.executable, "-c", script, model, folder / "model.onnx", "--quiet"]
    done, peak = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split()
    assert done == "0"
    return Built(folder, int(peak) / 1024)


def test_it_is_built_within_the_memory_promised(built: Built) -> None:
    assert built.peak_mb < 500


def test_it_takes_no_second_copy_of_the_weights(built: Built, model: Path) -> None:
    others = [entry for entry in built.folder.iterdir() if not entry.samefile(model)]
    assert sum(entry.stat().st_size for entry in others) < 10e6
    assert (built.folder / "model.gguf").samefile(model)


def test_the_graph_refers_to_the_blocks_where_they_lie(built: Built, model: Path) -> None:
    graph = onnx.load(str(built.folder / "model.onnx"), load_external_data=False).graph
    stored = {tensor.offset: tensor.nbytes for tensor in GGUF.open(model).tensors.values()}
    external = {}
    for initializer in graph.initializer:
        entry = {item.key: item.value for item in initializer.external_data}
        if entry:
            assert entry["location"] == "model.gguf"
            external[int(entry["offset"])] = int(entry["length"])
    assert external.items() <= stored.items()
    assert sum(external.values()) > 0.99 * sum(stored.values())
