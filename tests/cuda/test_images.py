"""The compiled kernels: no spills, vector loads, the same bytes anywhere; each GPU gets its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kernel_table
import pytest
from cuda_stub_log import Log
from run_on_cuda import run_on_cuda

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


def configure(source: Path, build: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """CMake's first half."""
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or "cmake"
    command = [cmake, "-G", "Unix Makefiles", "-S", source, "-B", build, "-DFERRUM_CUDA=ON",
               f"-DPython_EXECUTABLE={sys.executable}", *options]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True)


def test_units_compile_to_the_same_bytes_in_another_folder(build: Path, tmp_path: Path) -> None:
    source = shutil.copytree(ROOT / "custom_ops", tmp_path / "elsewhere" / "custom_ops")
    elsewhere = tmp_path / "built"
    assert configure(source, elsewhere).returncode == 0
    rules = "CMakeFiles/ferrum_cuda_images.dir/build.make"
    # nvcc names what is internal to a unit by one of several rules, so it is all of them.
    units = [path.stem for path in (ROOT / "custom_ops/native/cuda/kernels").glob("*.cu")]
    images = [f"cuda/{unit}.ptx" for unit in units]
    images += ["cuda/rows.sm_80.cubin", "cuda/gemv.sm_80.cubin", "cuda/rows.sm_90.cubin"]
    make = ["make", "-j2", "-C", elsewhere, "-f", rules, *images]
    subprocess.run(make, check=True, capture_output=True)
    for image in images:
        assert (elsewhere / image).read_bytes() == (build / image).read_bytes(), image


@pytest.mark.parametrize("wrong", ["75", "9.0", "80;90a"])
def test_architectures_that_cannot_be_are_named(tmp_path: Path, wrong: str) -> None:
    done = configure(ROOT / "custom_ops", tmp_path, f"-DFERRUM_CUDA_ARCHITECTURES={wrong}")
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert f"FERRUM_CUDA_ARCHITECTURES has {wrong.split(';')[-1]} -> compute capabilities" in said


@pytest.mark.parametrize(("wanted", "status"), [("AUTO", 0), ("ON", 1)])
def test_an_nvcc_that_is_too_old_is_told_and_not_used(
    tmp_path: Path, wanted: str, status: int
) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 11.8, V11.8.89'\n")
    nvcc.chmod(0o755)
    done = configure(
        ROOT / "custom_ops", tmp_path / "built", f"-DFERRUM_CUDA={wanted}", f"-DFERRUM_NVCC={nvcc}"
    )
    assert done.returncode == status
    assert "nvcc is of CUDA 11.8" in " ".join((done.stdout + done.stderr).split())
    assert ("ferrum: no CUDA kernels" in done.stdout) == (wanted == "AUTO")


def test_architectures_may_come_in_any_order(tmp_path: Path) -> None:
    done = configure(ROOT / "custom_ops", tmp_path, "-DFERRUM_CUDA_ARCHITECTURES=100;80;90")
    assert "CUDA kernels for 80;90;100 by" in done.stdout


def run_on(capability: str, model: Path, log: Path) -> subprocess.CompletedProcess[str]:
    """A prompt and a step of decode on a stand-in for a GPU of that compute capability."""
    return run_on_cuda(model, CUDA_STUB_CC=capability, CUDA_STUB_LOG=str(log))


# Beside the six, GPUs that came after them: of a generation that is there, and of one that is not.
@pytest.mark.parametrize(
    ("capability", "image"),
    [(target, f"cubin {target}") for target in TARGETS]
    + [("87", "cubin 86"), ("103", "cubin 100"), ("121", "cubin 120"), ("130", "ptx 0")],
)
def test_a_gpu_gets_the_machine_code_that_was_made_for_it(
    exported: Path, tmp_path: Path, capability: str, image: str
) -> None:
    log = Log(tmp_path / "calls.log")
    done = run_on(capability, exported, log.path)
    assert done.returncode == 0, done.stderr
    assert {line for line in log.lines() if line.startswith("module ")} == {f"module {image} 0"}
    assert log.count("cuLaunchKernel ")


def test_a_gpu_that_is_too_old_is_told_any_application_when_it_opens_the_model(
    exported: Path,
) -> None:
    code = (
        "import sys, onnxruntime as ort; from ferrum.custom_ops.library import register; "
        "options = ort.SessionOptions(); options.log_severity_level = 4; register(options); "
        "ort.InferenceSession(sys.argv[1], options, providers=['CUDAExecutionProvider'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, exported],
        env={**os.environ, "CUDA_STUB_CC": "75"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(
        r"\[\w+\] \S+: no kernels for a GPU of compute capability 7\.5, expected 8\.0 or newer$",
        done.stderr.strip(),
    )


def test_a_gpu_that_is_too_old_is_told(exported: Path, tmp_path: Path) -> None:
    log = Log(tmp_path / "calls.log")
    done = run_on("75", exported, log.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the GPU has compute capability 7.5 -> one of 8.0 or newer" in done.stderr
    assert done.stderr.count("\n") == 1
    assert log.count("module ") == log.count("cuLaunchKernel ") == 0
