"""ferrum-run over the stand-in CUDA libraries, in a process that has yet to load them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_CODE = "from ferrum.runtime.cli import main\nraise SystemExit(main())"


def run_on_cuda(model: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A prompt and a step of decode, with these variables over the process's own."""
    command = [sys.executable, "-c", _CODE, str(model), "--device", "cuda", "-p", "the"]
    return subprocess.run(
        [*command, "--max-tokens", "2", "--kv-capacity", "256"],
        env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
