"""What --check finds in a build's logs and PTX, and that it finds it."""

from __future__ import annotations

from pathlib import Path

import kernel_table
import pytest

LOG = """\
ptxas info    : Compiling entry function '{kernel}' for 'sm_90'
ptxas info    : Function properties for {kernel}
    0 bytes stack frame, {spilled} bytes spill stores, {spilled} bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem
"""
PTX = """\
.visible .entry {kernel}(
\t.param .align 8 .b8 {kernel}_param_0[64]
)
.maxntid 128
{{
\t{body}
}}
"""
LOADS = "ld.global.v4.u32 \t{%r1, %r2, %r3, %r4}, [%rd1];"


def build_of(folder: Path, kernel: str, spilled: int = 0, body: str = LOADS) -> Path:
    """A build of one kernel."""
    (folder / "cuda").mkdir()
    (folder / "cuda" / "gemv.sm_90.cubin.log").write_text(
        LOG.format(kernel=kernel, spilled=spilled)
    )
    (folder / "cuda" / "gemv.ptx").write_text(PTX.format(kernel=kernel, body=body))
    return folder


def faults(build: Path) -> list[str]:
    return kernel_table.faults(kernel_table.read(build), build)


def test_a_kernel_without_faults_has_a_row(tmp_path: Path) -> None:
    build = build_of(tmp_path, "gemv_Q4_K_1")
    assert faults(build) == []
    table = kernel_table.table(kernel_table.read(build), kernel_table.threads(build))
    assert table.splitlines()[-1] == "| gemv_Q4_K_1 | 128 | 40 | 512 | 0 |"


def test_spills_are_named(tmp_path: Path) -> None:
    assert faults(build_of(tmp_path, "gemv_Q4_K_1", spilled=8)) == [
        "gemv_Q4_K_1 on sm_90 spills 16 bytes"
    ]


@pytest.mark.parametrize(
    "body",
    ["ld.global.u32 \t%r1, [%rd1];", "ld.global.v2.u32 \t{%r1, %r2}, [%rd1];",
     "ld.global.v4.f32 \t{%f1, %f2, %f3, %f4}, [%rd1];"],
)  # fmt: skip
def test_narrow_loads_of_weights_are_named(tmp_path: Path, body: str) -> None:
    assert faults(build_of(tmp_path, "gemv_Q4_K_1", body=body)) == [
        "gemv_Q4_K_1 has no v4 load of weights"
    ]


@pytest.mark.parametrize(
    "operation", ["atom.global.add.u32", "red.shared.add.u32", "atom.acq_rel.gpu.cas.b32"]
)
@pytest.mark.parametrize("predicate", ["", "@%p3 ", "@!%p3 "])
def test_atomic_operations_are_named(tmp_path: Path, predicate: str, operation: str) -> None:
    body = (
        f"{LOADS}\n\t{predicate}{operation} \t%r1, [%rd1], 1;\n\tredux.sync.max.u32 %r2, %r1, -1;"
    )
    assert faults(build_of(tmp_path, "gemv_Q4_K_1", body=body)) == [
        f"gemv_Q4_K_1 has an atomic operation, {operation}"
    ]


def test_a_folder_without_a_build_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no \*\.cubin\.log -> a folder that CMake built"):
        kernel_table.read(tmp_path)
