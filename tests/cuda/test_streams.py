"""Runs of one session at once, as applications make them, share no scratch memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import onnxruntime as ort
import pytest
from cuda_stub_log import Log
from with_cuda_stub import PROVIDER, stub_source

LAYERS = 4  # of the sample
# So many tokens that experts' pairs are sorted into tiles, three times in each of three threads.
RUNS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import onnxruntime as ort
from ferrum.custom_ops.library import register

options = ort.SessionOptions()
options.log_severity_level = 4
register(options)
model, tokens = sys.argv[1], int(sys.argv[2])
session = ort.InferenceSession(model, options, providers=["CUDAExecutionProvider"])
step = {
    "input_ids": np.arange(tokens),
    "cumulative_sequence_lengths": np.array([0, tokens], np.int32),
    "past_sequence_lengths": np.zeros(1, np.int32),
    "block_table": np.arange(tokens // 16, dtype=np.int32)[None],
}
for port in session.get_inputs():
    if port.name not in step:
        step[port.name] = np.zeros((tokens // 16, 16, *port.shape[2:]), np.float16)

def work(thread):
    for _ in range(3):
        session.run(None, step)

with ThreadPoolExecutor(3) as threads:
    list(threads.map(work, range(3)))
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins that tell where scratch lies."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("libraries")
    places = Path(__file__).with_name("scratch_places.c")
    (source / "stub.c").write_text(
        f'#define STAND_INS "{stub_source() / "stub.c"}"\n#include "{places}"\n'
    )
    (source / "make.py").write_text((stub_source() / "make.py").read_text())
    provider = Path(ort.__file__).parents[1] / PROVIDER
    subprocess.run([sys.executable, source / "make.py", provider, folder], check=True)
    return folder


def run(
    model: Path, tokens: int, libraries: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUNS, str(model), str(tokens)],
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries), **environment},
        capture_output=True, text=True,
    )  # fmt: skip


def test_runs_at_once_share_no_scratch(exported: Path, libraries: Path, log: Log) -> None:
    """Scratch is freed before a kernel has run, so another stream must not have it meanwhile."""
    done = run(exported, 64, libraries)
    assert done.returncode == 0, done.stderr
    uses = [line.split()[1:3] for line in log.lines() if line.startswith("scratch ")]
    assert Counter(stream for stream, _ in uses) == dict.fromkeys({s for s, _ in uses}, 3 * LAYERS)

    held: dict[str, set[str]] = defaultdict(set)  # by stream, of the run that is under way
    launches: Counter[str] = Counter()
    at_once = 0
    for stream, place in uses:
        launches[stream] += 1
        others = [other for other in held if other != stream]
        at_once += any(held[other] for other in others)
        assert not [other for other in others if place in held[other]]
        held[stream].add(place)
        if launches[stream] % LAYERS == 0:  # the run's last; with its end all is free again
            held[stream].clear()
    assert at_once > 0


def test_too_little_memory_for_scratch_is_an_error_of_the_run(
    exported: Path, libraries: Path
) -> None:
    done = run(exported, 256, libraries, SCRATCH_LIMIT="1000000")
    assert done.returncode == 1, (done.returncode, done.stderr)
    last = done.stderr.strip().splitlines()[-1]
    assert "[QuantMoE] blk.0.moe: ONNX Runtime: " in last
    assert "Failed to allocate memory" in last
