"""A request's body to an object, or to a refusal that names the field.

Bodies come from anyone, so reading one may not cost more than its size: lists stop at their first
bad item and objects at their first unknown field, however many follow.
"""

from __future__ import annotations

import reprlib
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from ferrum.runtime.serve.errors import ApiError

B = TypeVar("B", bound="Body")

_NOTHING_GOT = ("missing", "unknown_field", "union_tag_not_found")
# In our words what pydantic says of itself or at length.
_WANTED = {
    "missing": "required",
    "union_tag_not_found": "required",
    "union_tag_invalid": "one of {expected_tags}",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "none_required": "null: it is not supported",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "a string of at least {min_length}",
    "string_too_long": "a string of at most {max_length} characters",
}


class Body(BaseModel):
    """An object of a request. null for a field that need not be given is as if it were not."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def read(cls: type[B], body: bytes) -> B:
        """The object that a body spells; ApiError (400) where it does not."""
        try:
            values = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise ApiError(400, f"[request] the body is not JSON: {error}") from None
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _refusal(error.errors(include_url=False), values) from None

    @model_validator(mode="wrap")
    @classmethod
    def _only_known_fields(cls: type[B], value: Any, read: ModelWrapValidatorHandler[B]) -> B:
        """Whatever else is wrong is told first: a part of another type has other fields too."""
        names = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = [name for name in value if name not in names] if isinstance(value, dict) else []
        if not unknown:
            return read(value)
        read({name: value[name] for name in value if name in names})
        raise PydanticCustomError(
            "unknown_field",
            "one of {names}",
            {"field": unknown[0], "names": ", ".join(sorted(names))},
        )


def _refusal(errors: list[ErrorDetails], values: Any) -> ApiError:
    """The first finding; where a field may be several things, all that were said about it."""
    field = errors[0]["loc"][:1]
    about = [(_path(error, values), error) for error in errors if error["loc"][:1] == field]
    # A branch that got farther into the value, or took its type, is the one that was meant.
    deepest = max(len(path) for path, _ in about)
    found = [(path, error) for path, error in about if len(path) == deepest]
    found = [one for one in found if not one[1]["type"].endswith("_type")] or found
    path, first = found[0]
    wanted = dict.fromkeys(_wanted(error) for where, error in found if where == path)
    param = _spelled(path)
    got = "" if first["type"] in _NOTHING_GOT else f", got {_short(_got(first))}"
    return ApiError(
        400,
        f"[request] {param or 'the body'}{got} -> {' or '.join(wanted)}",
        param=param or None,
        code="unknown_field" if first["type"] == "unknown_field" else None,
    )


def _path(error: ErrorDetails, values: Any) -> list[str | int]:
    """Where in the body an error is; pydantic's own path names the branches of unions too."""
    path: list[str | int] = []
    for part in error["loc"]:
        known = isinstance(values, dict) and part in values
        if known or (isinstance(values, list) and isinstance(part, int)):
            values = values[part]
            path.append(part)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    elif error["type"] == "unknown_field":
        path.append(error["ctx"]["field"])
    elif error["type"].startswith("union_tag"):
        path.append(error["ctx"]["discriminator"].strip("'"))
    return path


def _spelled(path: list[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _got(error: ErrorDetails) -> Any:
    return error["ctx"]["tag"] if error["type"] == "union_tag_invalid" else error["input"]


def _wanted(error: ErrorDetails) -> str:
    kind, about = error["type"], error.get("ctx", {})
    if about.get("max_length") == 0:
        return "empty: it is not supported"
    if kind in _WANTED:
        return _WANTED[kind].format(**about)
    message = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return message.replace("a valid ", "a ").replace("a integer", "an integer")


def _short(value: Any) -> str:
    """A value as an error repeats it; whole texts and huge numbers are not."""
    if isinstance(value, int) and value.bit_length() > 100:
        return "a number of many digits"
    return reprlib.repr(value)
