"""The compiled kernels: no spills, vector loads, the same bytes anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import kernel_table
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


def test_kernels_keep_to_their_registers_and_load_in_vectors(build: Path) -> None:
    found = kernel_table.read(build)
    assert {usage.architecture for usage in found} == {int(target) for target in TARGETS}
    assert kernel_table.faults(found, build) == []


def test_the_build_leaves_a_table_of_its_kernels(build: Path) -> None:
    found = kernel_table.read(build)
    rows = (build / "cuda" / "kernels.md").read_text().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [
        f"| {kernel}" for kernel in sorted({usage.kernel for usage in found})
    ]
    gemm = next(row for row in rows if row.startswith("| gemm_Q4_K_16 |"))
    assert gemm.split(" | ")[1] == "128"  # threads, as gemm_arguments.h has them


def test_units_compile_to_the_same_bytes_in_another_folder(build: Path, tmp_path: Path) -> None:
    source = shutil.copytree(ROOT / "custom_ops", tmp_path / "elsewhere" / "custom_ops")
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or "cmake"
    elsewhere = tmp_path / "built"
    options = ["-DFERRUM_CUDA=ON", f"-DPython_EXECUTABLE={sys.executable}"]
    rules = "CMakeFiles/ferrum_cuda_images.dir/build.make"
    # nvcc names what is internal to a unit by one of several rules, so it is all of them.
    units = [path.stem for path in (ROOT / "custom_ops/native/cuda/kernels").glob("*.cu")]
    images = [f"cuda/{unit}.ptx" for unit in units]
    images += ["cuda/rows.sm_80.cubin", "cuda/gemv.sm_80.cubin", "cuda/rows.sm_90.cubin"]
    for command in (
        [cmake, "-G", "Unix Makefiles", "-S", source, "-B", elsewhere, *options],
        ["make", "-j2", "-C", elsewhere, "-f", rules, *images],
    ):
        subprocess.run(command, check=True, capture_output=True)
    for image in images:
        assert (elsewhere / image).read_bytes() == (build / image).read_bytes(), image
