"""The application's arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ferrum.runtime.artifact import ArtifactError
from ferrum.runtime.bench.machine import physical_cores
from ferrum.runtime.serve.ray.arguments import Arguments
from ferrum.runtime.settings import SettingsError


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("FERRUM_")]:
        if name not in ("FERRUM_LIBRARY", "FERRUM_SHARED_DATA"):
            monkeypatch.delenv(name)


def complaint(model: Path, **given: Any) -> str:
    with pytest.raises(SettingsError) as error:
        Arguments.of({"model": str(model), **given})
    assert "\n" not in str(error.value)
    return str(error.value)


def test_texts_of_a_command_line_and_values_of_a_file_are_the_same(exported: Path) -> None:
    texts = {"model": str(exported), "replicas": "2", "threads": "3", "request_timeout": "7",
             "prefix_reuse": "no", "target_requests": "5", "max_queue": "9"}  # fmt: skip
    values = {"model": str(exported), "replicas": 2, "threads": 3, "request_timeout": 7,
              "prefix_reuse": False, "target_requests": 5, "max_queue": 9}  # fmt: skip
    assert Arguments.of(texts) == Arguments.of(values)


def test_arguments_go_to_whom_they_are_for(exported: Path) -> None:
    arguments = Arguments.of({"model": exported, "max_sequences": 4, "max_queue": 9})
    assert arguments.settings.max_sequences == 4
    assert arguments.serve.max_queue == 9
    assert arguments.model == exported


def test_a_number_of_replicas_or_a_range_that_scales(exported: Path) -> None:
    fixed = Arguments.of({"model": exported, "replicas": 3})
    assert fixed.replicas == {"num_replicas": 3}
    ranged = Arguments.of({"model": exported, "min_replicas": 1, "max_replicas": 4})
    scaling = ranged.replicas["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)
    assert scaling["target_ongoing_requests"] == ranged.settings.max_sequences


def test_a_replica_gets_a_cpu_per_thread_or_its_part_of_the_machine(exported: Path) -> None:
    given = Arguments.of({"model": exported, "replicas": 2, "threads": 5})
    assert given.resources["num_cpus"] == 5
    shared = Arguments.of({"model": exported, "replicas": 2})
    assert shared.resources["num_cpus"] == max(1, physical_cores() // 2)


def test_a_replica_on_a_gpu_has_one(exported: Path) -> None:
    assert Arguments.of({"model": exported, "device": "cuda"}).resources["num_gpus"] == 1


def test_the_environment_counts_where_an_argument_is_not_given(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERRUM_SERVE_API_KEY", "secret")
    monkeypatch.setenv("FERRUM_MAX_SEQUENCES", "3")
    arguments = Arguments.of({"model": exported, "max_sequences": 4})
    assert arguments.serve.api_key == "secret"
    assert arguments.settings.max_sequences == 4


def test_an_unknown_argument_is_refused_with_those_that_there_are(exported: Path) -> None:
    line = complaint(exported, replica=2)
    assert line.startswith("[replica] is no argument -> one of ")
    assert "replicas" in line
    assert "host" not in line.split(" -> ")[1].split(", ")


def test_what_means_nothing_here_is_refused_with_where_it_does(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "http_options.port" in complaint(exported, port=80)
    assert "overwrite" in complaint(exported, cache_file="x")
    monkeypatch.setenv("FERRUM_SERVE_HOST", "0.0.0.0")
    assert "http_options.host" in complaint(exported)


def test_values_that_are_not_allowed_are_refused_in_one_line(exported: Path) -> None:
    assert complaint(exported, replicas=0).startswith("[settings] replicas, got 0 -> ")
    assert complaint(exported, replicas="two").startswith("[replicas] got 'two' -> a whole number")
    assert complaint(exported, replicas=2, max_replicas=3).startswith(
        "[settings] replicas, got 2 -> not "
    )
    assert "at least min_replicas (3)" in complaint(exported, min_replicas=3, max_replicas=2)
    assert "max_sequences" in complaint(exported, max_sequences=0)
    assert "api_key" in complaint(exported, api_key="")


def test_a_model_is_needed_and_must_be_an_export(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="model=OUT"):
        Arguments.of({"replicas": 2})
    with pytest.raises(ArtifactError):
        Arguments.of({"model": str(tmp_path / "none.onnx")})
