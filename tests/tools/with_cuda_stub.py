"""Runs tests on ONNX Runtime for CUDA over stand-in CUDA libraries, where there is no GPU.

    python tests/tools/with_cuda_stub.py [pytest arguments]      (default: tests/cuda)

Kernels do nothing there, so no number means anything. But nodes are placed, kernels and their
images chosen, launches checked and logged, and what is illegal in a capture is refused.

onnxruntime-gpu and onnxruntime cannot be installed together: the former goes into a folder of its
own under build/, before the environment's packages. ONNXRUNTIME_GPU names one that is there
already, CUDA_STUB_SOURCE the folder of the stand-ins' source (default: ../shared/tools/cuda_stub).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ferrum.custom_ops.library import describe

ROOT = Path(__file__).resolve().parents[2]
VERSION = "1.31.1"
PROVIDER = "onnxruntime/capi/libonnxruntime_providers_cuda.so"


def onnxruntime_gpu() -> Path:
    """The folder of onnxruntime-gpu, without its dependencies, which the environment has."""
    named = os.environ.get("ONNXRUNTIME_GPU")
    if named:
        return Path(named).absolute()
    folder = ROOT / "build" / "onnxruntime" / f"gpu-{VERSION}"
    if not (folder / PROVIDER).exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        wanted = f"onnxruntime-gpu=={VERSION}"
        subprocess.run([*pip, "--target", str(folder), wanted], check=True)
    return folder


def stub_source() -> Path:
    """The folder of the stand-ins' source."""
    return Path(os.environ.get("CUDA_STUB_SOURCE", ROOT.parent / "shared/tools/cuda_stub"))


def stand_ins(provider: Path) -> Path:
    """The folder of the CUDA libraries that the provider needs, built where they are not."""
    source = stub_source()
    folder = ROOT / "build" / "cuda_stub"
    built = folder / "libcuda.so.1"
    sources = [source / "make.py", source / "stub.c"]
    if missing := [path for path in sources if not path.exists()]:
        raise FileNotFoundError(f"with_cuda_stub: no {missing[0]} -> name it in CUDA_STUB_SOURCE")
    newest = max(path.stat().st_mtime for path in (*sources, provider))
    if not built.exists() or built.stat().st_mtime < newest:
        subprocess.run([sys.executable, sources[0], provider, folder], check=True)
    return folder


def main() -> int:
    if not describe()["cuda"]:
        sys.exit("with_cuda_stub: the library has no CUDA kernels -> nvcc, and `make setup` anew")
    packages = onnxruntime_gpu()
    libraries = stand_ins(packages / PROVIDER)
    before = os.environ.get("LD_LIBRARY_PATH")
    environment = {
        **os.environ,
        "PYTHONPATH": str(packages),
        "LD_LIBRARY_PATH": f"{libraries}:{before}" if before else str(libraries),
        "CUDA_STUB_LIBRARIES": str(libraries),
        # Memory begins as zeros: logits, which no kernel writes, are then numbers.
        "MALLOC_PERTURB_": "255",
    }
    tests = sys.argv[1:] or ["tests/cuda"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(pytest, env=environment, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
