"""Exports of the sample model: one that stays as it is, and one to break for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from export_folder import ExportFolder

from ferrum.builder.build import BuildOptions, build


@pytest.fixture(scope="session")
def pristine(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportFolder:
    """Never changed by a test."""
    folder = tmp_path_factory.mktemp("pristine")
    build(sample, folder / "m.onnx", BuildOptions(weights="copy", progress=False))
    return ExportFolder(folder / "m.onnx", folder / sample.name, sample)


@pytest.fixture
def export(pristine: ExportFolder, tmp_path: Path) -> ExportFolder:
    """A copy of its own for each test."""
    folder = tmp_path / "export"
    shutil.copytree(pristine.path.parent, folder)
    return ExportFolder(folder / "m.onnx", folder / pristine.weights.name, pristine.gguf)
