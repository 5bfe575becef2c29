"""What settings have in common: strict checks, arguments or the environment, errors of one line.

An argument wins over the environment variable <prefix><NAME>, which wins over the default. A name
that is not a field, or a value that is not allowed, raises SettingsError; nothing is ignored.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ferrum.runtime.options import OptionError, parse

if TYPE_CHECKING:
    from typing_extensions import Self


class SettingsError(ValueError):
    """A setting that does not exist or has a value that is not allowed; one line."""


class StrictSettings(BaseModel):
    """Settings whose fields say what is allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prefix: ClassVar[str]  # of environment variables
    others: ClassVar[tuple[str, ...]] = ()  # variables that others read; NAME_ is all that begin so

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_sentence(type(self), error)) from None

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None, /, **given: Any) -> Self:
        """The settings given, then those of the environment (default os.environ), then defaults."""
        variables = os.environ if environment is None else environment
        return cls(**{**_from_environment(cls, variables), **given})

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed, as strictly checked."""
        return type(self)(**{**self.model_dump(exclude_unset=True), **changes})


def comma_separated(value: Any) -> Any:
    """Names as one comma-separated string, or as a list of such, to a tuple of names."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return value
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


def _from_environment(
    settings: type[StrictSettings], environment: Mapping[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(settings.prefix) or _of_others(settings, variable):
            continue
        name = variable.removeprefix(settings.prefix).lower()
        if name not in settings.model_fields or variable != settings.prefix + name.upper():
            allowed = sorted(settings.prefix + field.upper() for field in settings.model_fields)
            raise SettingsError(
                f"[settings] environment variable {variable} -> one of {', '.join(allowed)}"
            )
        if text:
            found[name] = _parse(settings, variable, name, text)
        elif not settings.model_fields[name].repr:
            # A secret that a file's ${KEY} was to bring: without it all would be open.
            raise SettingsError(
                f"[settings] environment variable {variable} is empty -> a value, or no variable"
            )
        # As with most programs, another empty variable is one that is not set.
    return found


def _of_others(settings: type[StrictSettings], variable: str) -> bool:
    beginnings = tuple(name for name in settings.others if name.endswith("_"))
    return variable in settings.others or variable.startswith(beginnings)


def _parse(settings: type[StrictSettings], variable: str, name: str, text: str) -> Any:
    try:
        return parse(settings, name, text)
    except OptionError as error:
        raise SettingsError(f"[settings] environment variable {variable}: {error}") from None


def _sentence(settings: type[StrictSettings], error: ValidationError) -> str:
    """The first of pydantic's findings, as one line of ours; a secret is not repeated."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"[settings] {name} -> one of {', '.join(sorted(settings.model_fields))}"
    wanted = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if not name:
        return f"[settings] {wanted}"
    field = settings.model_fields.get(name)
    got = "" if field is not None and not field.repr else f", got {first['input']!r}"
    return f"[settings] {name}{got} -> {wanted}"
