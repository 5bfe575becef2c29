"""Runs tests on another ONNX Runtime than the environment's own.

    python tests/tools/with_onnxruntime.py oldest|newest [pytest arguments]

"oldest" is the lower bound that the package declares, "newest" the latest release. Each is
installed into a folder of its own under build/, which goes before the environment's packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def lower_bound(package: str, requirements: list[str]) -> str:
    """The version after `>=` in what a package asks for; ValueError where there is none."""
    for requirement in map(Requirement, requirements):
        for specifier in requirement.specifier:
            if requirement.name == package and specifier.operator == ">=":
                return specifier.version
    raise ValueError(f"[requirements] no lower bound -> {package}>=VERSION in pyproject.toml")


def install(which: str) -> Path:
    """The folder with that ONNX Runtime, without its dependencies, which the environment has."""
    folder = ROOT / "build" / "onnxruntime" / which
    wanted = "onnxruntime"
    if which == "oldest":
        wanted += f"=={lower_bound('onnxruntime', metadata.requires('ferrum') or [])}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", str(folder), wanted], check=True)
    return folder


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in ("oldest", "newest"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = install(sys.argv[1])
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    report = "import onnxruntime as o; print('onnxruntime', o.__version__, 'from', o.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", report], env=environment, check=True, capture_output=True, text=True
    )
    print(ran.stdout, end="", flush=True)
    if str(folder) not in ran.stdout:
        print(f"with_onnxruntime: expected the one in {folder}", file=sys.stderr)
        return 1
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[2:]]
    return subprocess.run(pytest, env=environment, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
