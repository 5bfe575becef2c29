"""The compiled kernels: no spills where it matters, vector loads, the same bytes anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cuda_kernels
import pytest

from ferrum.custom_ops.library import describe

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ["80", "86", "89", "90", "100", "120"]


@pytest.fixture(scope="module")
def build() -> Path:
    """The folder that the installed library was built in."""
    return next((ROOT / "build").glob("py3-none-*"))


def test_every_generation_has_machine_code_and_the_oldest_ptx() -> None:
    assert describe()["cuda"] == ["ptx80", *TARGETS]


def test_hot_kernels_keep_to_their_registers_and_load_in_vectors(build: Path) -> None:
    found = cuda_kernels.read(build)
    assert {usage.architecture for usage in found} == {int(target) for target in TARGETS}
    assert cuda_kernels.faults(found, build) == []


def configured(source: Path, build: Path) -> Path:
    """The PTX of one unit, built by CMake out of a checkout's copy."""
    cmake = [shutil.which("cmake", path=str(Path(sys.executable).parent)) or "cmake"]
    python = f"-DPython_EXECUTABLE={sys.executable}"
    options = ["-DFERRUM_CUDA=ON", python]
    subprocess.run([*cmake, "-S", source, "-B", build, *options], check=True, capture_output=True)
    ptx = build / "cuda" / "rows.ptx"
    rules = "CMakeFiles/ferrum_cuda_images.dir/build.make"
    make = ["make", "-C", build, "-f", rules, "cuda/rows.ptx"]
    subprocess.run(make, check=True, capture_output=True)
    return ptx


def test_a_unit_compiles_to_the_same_bytes_in_another_folder(build: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT / "custom_ops", tmp_path / "elsewhere" / "custom_ops")
    ptx = configured(copy, tmp_path / "built")
    assert ptx.read_bytes() == (build / "cuda" / "rows.ptx").read_bytes()
    for architecture in ("90", "100"):
        cubin = tmp_path / f"{architecture}.cubin"
        subprocess.run(["nvcc", "-cubin", f"-arch=sm_{architecture}", "-o", cubin, ptx], check=True)
        built = build / "cuda" / f"rows.sm_{architecture}.cubin"
        assert cubin.read_bytes() == built.read_bytes()
