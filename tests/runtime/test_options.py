"""Fields of a model as options of a command line, each spelled, parsed and described."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from ferrum.runtime.options import OptionError, add_options, given, parse
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.settings import Settings


def parsed(model: Any, *words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument_group("all"), model)
    return given(parser.parse_args(words), model)


def test_only_options_that_were_given_count() -> None:
    assert parsed(Settings) == {}
    assert parsed(Settings, "--moe-path", "one", "--threads", "2", "--no-spin", "--profile") == {
        "moe_path": "one", "threads": 2, "spin": False, "profile": True,
    }  # fmt: skip


def test_sampling_options() -> None:
    words = ["--temperature", "0.5", "--stop", "a,b", "--stop", "c", "--stop-token-ids", "3, 4",
             "--max-tokens", "none"]  # fmt: skip
    assert parsed(SamplingParams, *words) == {
        "temperature": 0.5, "stop": ["a,b", "c"], "stop_token_ids": (3, 4), "max_tokens": None,
    }  # fmt: skip


@pytest.mark.parametrize("model", [Settings, SamplingParams])
def test_every_field_has_an_option_with_a_description(model: Any) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument_group("all"), model)
    help_text = parser.format_help()
    for name, field in model.model_fields.items():
        assert field.description, name
        assert ("--" + name.replace("_", "-") in help_text) != bool(field.exclude)


@pytest.mark.parametrize(
    ("name", "text"), [("temperature", "warm"), ("seed", "1.5"), ("stop_token_ids", "1,x")]
)
def test_text_that_is_no_value_is_named(name: str, text: str) -> None:
    with pytest.raises(OptionError, match=rf"\[{name}\] got '.*' -> a (whole )?number"):
        parse(SamplingParams, name, text)
