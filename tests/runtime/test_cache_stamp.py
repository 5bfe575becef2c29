"""Stamps agree where blocks are equal bit by bit, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_export

from ferrum.runtime.artifact import Artifact
from ferrum.runtime.cache_stamp import cache_stamp
from ferrum.runtime.settings import Settings

BASE = Settings()


def stamp(folder: Path, settings: Settings = BASE) -> dict[str, Any]:
    return cache_stamp(Artifact.open(folder), settings)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


def test_two_exports_of_one_model_agree(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tiny_export.write(tmp_path / name)
    assert stamp(tmp_path / "a") == stamp(tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"block_size": 5}, ["block_size"]),
        ({"arithmetic": "exact"}, ["arithmetic"]),
        ({"route": "host"}, ["route"]),
        ({"kernels": "reference"}, ["kernels"]),
        ({"isa": "generic"}, ["kernels"]),
        ({"threads": 3, "moe_path": "few", "step_tokens": 64, "kv_capacity": 9}, []),
    ],
)
def test_settings_count_that_change_bits(
    tiny: Path, changes: dict[str, Any], names: list[str]
) -> None:
    assert differing(stamp(tiny), stamp(tiny, Settings(**changes))) == names


def other_graph(folder: Path) -> None:
    path = folder / "tiny.onnx"
    path.write_bytes(path.read_bytes() + b"\x00")


def other_weights(folder: Path) -> None:
    path = folder / "tiny.gguf"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")


def other_name(folder: Path) -> None:
    path = folder / "ferrum.json"
    manifest = json.loads(path.read_text())
    manifest["model"]["name"] = "other"
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "name"),
    [(other_graph, "graph"), (other_weights, "weights"), (other_name, "model")],
)
def test_another_model_is_told_apart(
    tmp_path: Path, change: Callable[[Path], None], name: str
) -> None:
    tiny_export.write(tmp_path)
    before = stamp(tmp_path)
    change(tmp_path)
    assert differing(before, stamp(tmp_path)) == [name]
