"""What every kind of settings keeps to."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import Field

from ferrum.runtime.strict_settings import SettingsError, StrictSettings, comma_separated


class Some(StrictSettings):
    """A kind of settings."""

    prefix: ClassVar[str] = "SOME_"
    others: ClassVar[tuple[str, ...]] = ("SOME_PATH", "SOME_MORE_")

    size: int = Field(1, ge=1)
    secret: str = Field("none", max_length=6, repr=False)


def test_variables_of_others_are_left_alone_and_no_further_ones() -> None:
    assert Some.read({"SOME_PATH": "x", "SOME_MORE_SIZE": "x", "SOMETHING": "x"}) == Some()
    for variable in ("SOME_PATHS", "SOME_MORE", "SOME_size", "SOME_"):
        with pytest.raises(SettingsError, match=f"{variable} -> one of SOME_SECRET, SOME_SIZE"):
            Some.read({variable: "1"})


def test_a_changed_copy_is_checked_too_and_of_the_same_kind() -> None:
    changed = Some(size=2).but(secret="hush")
    assert type(changed) is Some
    assert (changed.size, changed.secret) == (2, "hush")
    with pytest.raises(SettingsError, match="size, got 0 -> greater than or equal to 1"):
        changed.but(size=0)
    with pytest.raises(SettingsError, match="sise -> one of secret, size"):
        Some(sise=1)


def test_a_secret_is_neither_shown_nor_repeated() -> None:
    assert "hush" not in repr(Some(secret="hush"))
    with pytest.raises(SettingsError, match=r"^\[settings\] secret -> ") as error:
        Some(secret="far too long")
    assert "far too long" not in str(error.value)


def test_an_empty_variable_is_not_set_but_an_empty_secret_is_a_mistake() -> None:
    """Such as of a file whose ${KEY} nobody has set: what it was to protect would be open."""
    assert Some.read({"SOME_SIZE": ""}) == Some()
    for given in ({}, {"secret": "hush"}):
        with pytest.raises(SettingsError, match=r"variable SOME_SECRET is empty -> ") as error:
            Some.read({"SOME_SECRET": ""}, **given)
        assert "\n" not in str(error.value)


def test_names_may_be_one_string_or_several() -> None:
    assert comma_separated("a, b,,c") == comma_separated(["a,b", " c"]) == ("a", "b", "c")
    assert comma_separated(("a",)) == ("a",)
