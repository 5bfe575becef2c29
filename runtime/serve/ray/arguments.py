"""The application's arguments: the model, the number of replicas, all that ferrum-serve has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from ferrum.runtime.artifact import Artifact
from ferrum.runtime.options import OptionError, parse
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings
from ferrum.runtime.strict_settings import SettingsError, StrictSettings

# Settings that mean nothing here, and where they do.
_NOT_HERE = {
    "host": "Ray's http_options.host",
    "port": "Ray's http_options.port",
    "cache_file": "ferrum-serve, as replicas would overwrite each other's",
    "trace_out": "ferrum-run, as replicas would overwrite each other's",
    "trace": "ferrum-run",
    "expert_load": "ferrum-run",
}


class Scaling(StrictSettings):
    """What ferrum-serve has not: how often it is there. Arguments alone, no variables."""

    model: Path = Field(description="the .onnx or its folder, the same path on every node")
    replicas: int | None = Field(
        None, ge=1, description="as many replicas, always; or else min_replicas and max_replicas"
    )
    min_replicas: int = Field(1, ge=1, description="fewest replicas")
    max_replicas: int | None = Field(
        None, ge=1, description="most replicas; by default min_replicas"
    )
    target_requests: float | None = Field(
        None,
        gt=0,
        description="requests per replica, waiting ones included, that replicas are added or taken "
        "away for; by default max_sequences: what one runs at a time",
    )
    upscale_delay: float = Field(
        10.0,
        ge=0,
        description="seconds of more to do before replicas are added",
    )
    downscale_delay: float = Field(
        300.0, ge=0, description="seconds of less to do before replicas are taken away"
    )
    ingresses: int = Field(
        1,
        ge=1,
        description="processes that read requests and route them; one carries about a thousand "
        "streamed tokens per second",
    )

    @field_validator("model", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return Path(value).absolute() if isinstance(value, str) and value else value

    @field_validator("target_requests", "upscale_delay", "downscale_delay", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Scaling:
        ranged = sorted({"min_replicas", "max_replicas"} & self.model_fields_set)
        if self.replicas is not None and ranged:
            raise ValueError(f"replicas, got {self.replicas} -> not together with {ranged[0]}")
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas, got {self.max_replicas} -> at least min_replicas "
                f"({self.min_replicas})"
            )
        return self

    @property
    def fewest(self) -> int:
        """Replicas when there is nothing to do."""
        return self.replicas or self.min_replicas

    @property
    def most(self) -> int:
        """Replicas under any load."""
        return self.replicas or self.max_replicas or self.min_replicas


@dataclass(frozen=True)
class Arguments:
    """Checked arguments; what they mean to Ray."""

    scaling: Scaling
    settings: Settings
    serve: ServeSettings

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Arguments:
        """Sort arguments by whose they are. What is not given comes from the environment of the
        process that builds the application: replicas get the values and read none themselves.

        SettingsError or ArtifactError with one line, before Ray has started anything.
        """
        parts: dict[type[StrictSettings], dict[str, Any]] = {
            Scaling: {},
            Settings: {},
            ServeSettings: {},
        }
        for name, value in given.items():
            owner = next((model for model in parts if name in model.model_fields), None)
            if owner is None:
                raise SettingsError(f"[{name}] is no argument -> one of {', '.join(_names())}")
            parts[owner][name] = _value(owner, name, value)
        if "model" not in parts[Scaling]:
            raise SettingsError("[model] is not given -> model=OUT.onnx")
        scaling = Scaling(**parts[Scaling])
        settings = Settings.read(**parts[Settings])
        serve = ServeSettings.read(**parts[ServeSettings])
        for name in sorted(settings.model_fields_set | serve.model_fields_set):
            if name in _NOT_HERE:
                raise SettingsError(f"[{name}] is set, but nothing here -> {_NOT_HERE[name]}")
        Artifact.open(scaling.model)
        return cls(scaling, settings, serve)

    @property
    def model(self) -> Path:
        """The export."""
        return self.scaling.model

    @property
    def ingresses(self) -> int:
        """Processes that route."""
        return self.scaling.ingresses

    @property
    def resources(self) -> dict[str, Any]:
        """What Ray sets aside for a replica: a CPU per thread, and a GPU where it runs on one.

        Without `threads`, replicas share the cores of the machine that builds the application.
        """
        # Imported here, as it brings ONNX Runtime, for which an ingress has no use.
        from ferrum.runtime.bench.machine import physical_cores

        cpus = self.settings.threads or max(1, physical_cores() // self.scaling.most)
        return {"num_cpus": cpus, "num_gpus": 1 if self.settings.device == "cuda" else 0}

    @property
    def most_per_replica(self) -> int:
        """Requests that a replica has at a time: those it runs, and as many that wait so near that
        a place is taken as soon as it is free. The others wait in the ingress, for any replica."""
        return 2 * self.settings.max_sequences

    @property
    def replicas(self) -> dict[str, Any]:
        """How many replicas Ray runs: a number, or what they depend on."""
        scaling = self.scaling
        if scaling.fewest == scaling.most:
            return {"num_replicas": scaling.fewest}
        autoscaling = {
            "min_replicas": scaling.fewest,
            "max_replicas": scaling.most,
            "target_ongoing_requests": scaling.target_requests or self.settings.max_sequences,
            "upscale_delay_s": scaling.upscale_delay,
            "downscale_delay_s": scaling.downscale_delay,
        }
        return {"autoscaling_config": autoscaling}


def _names() -> list[str]:
    fields = {*Scaling.model_fields, *Settings.model_fields, *ServeSettings.model_fields}
    return sorted(fields - set(_NOT_HERE))


def _value(model: type[StrictSettings], name: str, value: Any) -> Any:
    """A value as its field wants it: `serve run` passes texts on, a YAML file values."""
    if not isinstance(value, str):
        return value
    try:
        return parse(model, name, value)
    except OptionError as error:
        raise SettingsError(str(error)) from None
