"""What docs/scale.md shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from ferrum.runtime.serve.ray.arguments import Arguments, Scaling

TEXT = (Path(__file__).resolve().parent.parent.parent / "docs" / "scale.md").read_text()


@pytest.fixture
def config() -> Any:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    return yaml.safe_load(block)


def test_ray_takes_the_file(config: Any) -> None:
    (application,) = ServeDeploySchema.model_validate(config).applications
    assert application.import_path == "ferrum.runtime.serve.ray:app"
    assert {deployment.name for deployment in application.deployments} <= {"Engine", "Ingress"}


def test_its_arguments_are_taken_too(config: Any, exported: Path) -> None:
    args = config["applications"][0]["args"]
    assert Arguments.of({**args, "model": str(exported)}).scaling.most == args["max_replicas"]


def test_every_argument_is_in_the_table() -> None:
    rows = re.findall(r"^\| ([a-z_, ]+) \|", TEXT, re.MULTILINE)
    named = {name.strip() for row in rows for name in row.split(",")}
    assert set(Scaling.model_fields) <= named
