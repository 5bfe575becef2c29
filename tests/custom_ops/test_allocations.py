"""A session's threads take no scratch memory: where there is none left, they could only end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Loops over blocks and planes, of matrices of many chunks; 32 rows are more than 16 KiB.
CASES = """
import ctypes
import json
import os
import numpy as np
from native_node import session
from oracle import quantized
from planes_cases import ALL, activations, routed
from ferrum.custom_ops.planes import to_planes
from ferrum.custom_ops.quants import QUANTS

heap = ctypes.CDLL(os.environ["LD_PRELOAD"])
found = {}

def watch(name, op, feeds, attributes, **settings):
    ours = session(op, attributes, threads=4, **settings)
    heap.watch_allocations(1)
    ours.run(None, feeds)
    heap.watch_allocations(0)
    found[name] = heap.allocations()

k = 1024
for planes in QUANTS.planes:
    for kind in (planes.blocks, planes):
        def matrix(*shape):
            blocks = quantized(planes.blocks.id, shape)[0]
            return blocks if kind is planes.blocks else to_planes(planes, blocks)
        for tokens in (1, 40):
            x = activations(tokens, k)
            name = f"{kind.name}, {tokens} tokens"
            watch(name, "QuantMatMul", {"x": x, "weight": matrix(2048, k)}, {"type": kind.id})
            watch(f"QKV of {name}", "QuantQKV",
                  {"x": x, **{w: matrix(1024, k) for w in ("wq", "wk", "wv")}},
                  {"q_type": kind.id, "k_type": kind.id, "v_type": kind.id})
            experts = routed(tokens, k, 4, 2) | {part: matrix(4, k, k) for part in ALL}
            types = {"gate_type": kind.id, "up_type": kind.id, "down_type": kind.id}
            watch(f"experts of {name}", "QuantMoE", experts, types)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def heap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The counting heap, compiled."""
    library = tmp_path_factory.mktemp("heap") / "heap.so"
    source = Path(__file__).with_name("allocations.c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    return library


def test_no_thread_takes_scratch_in_a_loop(heap: Path) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", CASES],
        env={**os.environ, "LD_PRELOAD": str(heap), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) >= 36
    assert {name: count for name, count in found.items() if count} == {}


def test_a_thread_that_takes_memory_is_seen(heap: Path) -> None:
    program = """
import ctypes, os, threading
heap = ctypes.CDLL(os.environ["LD_PRELOAD"])
heap.watch_allocations(1)
thread = threading.Thread(target=bytearray, args=(1 << 20,))
thread.start(), thread.join()
heap.watch_allocations(0)
print(heap.allocations())
"""
    environment = {**os.environ, "LD_PRELOAD": str(heap)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    assert int(done.stdout) > 0
