"""The fields of the settings and of the sampling parameters as options of a command line."""

from __future__ import annotations

import argparse
import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class OptionError(ValueError):
    """Text that is no value of a field; one line."""


def add_options(group: argparse._ArgumentGroup, model: type[BaseModel]) -> None:
    """One option per field, by its name and description; options not given are left unset."""
    for name, field in model.model_fields.items():
        if field.exclude:  # callables have no spelling
            continue
        option = "--" + name.replace("_", "-")
        described = (field.description or "").replace("%", "%%")
        default = field.get_default()
        if default not in ((), None, ""):
            described += f" (default: {str(default).lower()})"
        if field.annotation is bool:
            group.add_argument(option, dest=name, default=argparse.SUPPRESS, help=described,
                               action=argparse.BooleanOptionalAction)  # fmt: skip
        else:
            words = _words(field.annotation)
            metavar = "{" + ",".join(words) + "}" if words else _placeholder(field.annotation)
            strings = get_args(field.annotation)[:1] == (str,)
            repeated = strings and get_origin(field.annotation) is tuple
            group.add_argument(option, dest=name, default=argparse.SUPPRESS, help=described,
                               metavar=metavar,
                               action="append" if repeated else "store")  # fmt: skip


def given(arguments: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """The fields of `model` among the options that were given, as values."""
    found: dict[str, Any] = {}
    for name in model.model_fields:
        if hasattr(arguments, name):
            value = getattr(arguments, name)
            found[name] = parse(model, name, value) if isinstance(value, str) else value
    return found


def parse(model: type[BaseModel], name: str, text: str) -> Any:
    """The value of a field written as text. Whether it is allowed, the model itself checks.

    "none" stands for None where a field may be that; a tuple is written with commas.
    """
    kinds = _alternatives(model.model_fields[name].annotation)
    if type(None) in kinds and text.strip().lower() == "none":
        return None
    for kind in kinds:
        if kind is bool:
            if text.strip().lower() not in _WORDS:
                raise OptionError(f"[{name}] got {text!r} -> one of {', '.join(_WORDS)}")
            return _WORDS[text.strip().lower()]
        if kind in (int, float):
            return _number(name, kind, text)
        if get_origin(kind) is tuple:
            items = [item.strip() for item in text.split(",") if item.strip()]
            element = get_args(kind)[0]
            return tuple(item if element is str else _number(name, element, item) for item in items)
    return text


def _number(name: str, kind: Any, text: str) -> int | float:
    try:
        number: int | float = kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise OptionError(f"[{name}] got {text!r} -> {wanted}") from None
    return number


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types that a field's annotation names."""
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _words(annotation: Any) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _placeholder(annotation: Any) -> str:
    kinds = _alternatives(annotation)
    if int in kinds:
        return "N"
    if float in kinds:
        return "X"
    return "N,N" if get_args(annotation)[:1] == (int,) else "TEXT"
