"""Each GPU gets the kernels that were compiled for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from ferrum.runtime.session import Session
from ferrum.runtime.settings import Settings

session = Session.open(sys.argv[1], Settings(device="cuda", threads=1, kv_capacity=256))
session.prefill("a", [1, 2, 3])
session.decode("a", 4)
session.prefill("a", [5] * 100)
"""


@pytest.mark.parametrize("capability", ["80", "86", "89", "90", "120"])
def test_the_image_is_the_gpu_s_own(exported: Path, tmp_path: Path, capability: str) -> None:
    log = tmp_path / "calls.log"
    environment = {**os.environ, "CUDA_STUB_CC": capability, "CUDA_STUB_LOG": str(log)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(exported)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    modules = {line for line in lines if line.startswith("module ")}
    assert modules == {f"module cubin {capability} 0"}
    assert [line for line in lines if line.startswith("cuLaunchKernel ")]
