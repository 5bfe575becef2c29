"""ferrum-build killed at any moment: what it leaves is all of the old build or all of the new."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.outputs import recover

SCRIPT = "import sys; from ferrum.builder.cli import main; print(flush=True); sys.exit(main())"


def start(model: Path, output: Path, context: int) -> subprocess.Popen[bytes]:
    """A build that replaces `output`; returned when its interpreter is up."""
    options = ["--force", "--quiet", "--weights", "copy", "--max-context", str(context)]
    command = [sys.executable, "-c", SCRIPT, str(model), str(output), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticSpec(layers=1, vocab=2000, experts=16, mixture="Q8_0")
    return write_synthetic(tmp_path_factory.mktemp("killed") / "m.gguf", spec)[0]


def test_a_kill_leaves_the_old_build_or_the_new(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.onnx"
    builds = {}
    for context in (100, 200):
        began = time.monotonic()
        assert start(model, output, context).wait() == 0
        seconds = time.monotonic() - began
        builds[context] = contents(tmp_path)
    assert builds[100] != builds[200]
    rng = random.Random(0)
    for turn in range(8):
        process = start(model, output, 100 if turn % 2 else 200)
        # The last part of a build writes and renames, so half of the kills aim there.
        time.sleep(seconds * rng.uniform(0.8 if turn % 4 < 2 else 0, 1))
        process.kill()
        process.wait()
        recover(tmp_path)
        assert contents(tmp_path) in builds.values()
    assert {entry.name for entry in tmp_path.iterdir()} == set(builds[100])


def test_a_kill_of_the_first_build_leaves_nothing_or_all(model: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    for turn in range(4):
        folder = tmp_path / str(turn)
        process = start(model, folder / "m.onnx", 100)
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.wait()
        if folder.exists():
            recover(folder)
            assert set(contents(folder)) in (
                set(),
                {"m.onnx", "m.gguf", "tokenizer.json", "tokenizer_config.json", "ferrum.json",
                 "genai_config.json", "chat_template.jinja"},
            )  # fmt: skip
