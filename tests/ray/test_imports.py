"""Ray is imported by the modules that are for it, and by nothing else."""

from __future__ import annotations

import subprocess
import sys

SERVER = "import ferrum.runtime.serve.cli, ferrum.runtime.serve.run"


def test_the_server_does_without_ray() -> None:
    code = f"import sys; {SERVER}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_ingress_does_without_the_model() -> None:
    code = "import sys; import ferrum.runtime.serve.ray; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
