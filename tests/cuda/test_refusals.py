"""What keeps a model off the GPU is one line, and it never runs on the CPU instead."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from run_on_cuda import run_on_cuda

from ferrum.runtime import kv_cache
from ferrum.runtime.artifact import ArtifactError
from ferrum.runtime.device_memory import DeviceMemory
from ferrum.runtime.llm import LLM


def run(model: Path, libraries: Path | None) -> subprocess.CompletedProcess[str]:
    """ferrum-run with other CUDA libraries than this process has."""
    return run_on_cuda(model, LD_LIBRARY_PATH=str(libraries or ""))


def test_with_the_stand_ins_it_runs(exported: Path, stub_libraries: Path) -> None:
    done = run(exported, stub_libraries)
    assert done.returncode == 0, done.stderr


def test_a_machine_without_a_driver_is_one_line(exported: Path) -> None:
    done = run(exported, None)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ferrum-run: [settings] device, got 'cuda', but ")
    assert done.stderr.count("\n") == 1


def test_a_library_that_is_missing_is_told(
    exported: Path, stub_libraries: Path, tmp_path: Path
) -> None:
    for path in stub_libraries.glob("*.so*"):
        if "cublas" in path.name:  # what is no library at all keeps others from being found
            (tmp_path / path.name).write_text("")
        else:
            shutil.copy(path, tmp_path)
    done = run(exported, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ferrum-run: [settings] device, got 'cuda', but ONNX Runtime" in done.stderr


def test_caches_that_do_not_fit_are_one_line(
    open_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "DeviceMemory", lambda size: DeviceMemory(size << 40))
    with pytest.raises(ArtifactError, match=r"on the GPU .* -> a smaller kv_capacity") as caught:
        open_llm()
    assert "\n" not in str(caught.value)
