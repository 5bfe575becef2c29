"""One strict object: what is not a setting, or not a value of it, is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ferrum.runtime.settings import Settings, SettingsError


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    environment = {"FERRUM_MOE_PATH": "few", "FERRUM_THREADS": "3", "PATH": "/bin"}
    settings = Settings.read(environment, moe_path="one")
    assert (settings.moe_path, settings.threads, settings.block_size) == ("one", 3, 32)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("FERRUM_PROFILE", "1", "profile", True),
        ("FERRUM_SPIN", "false", "spin", False),
        ("FERRUM_PREFIX_REUSE", "no", "prefix_reuse", False),
        ("FERRUM_SPECULATE", "4", "speculate", 4),
        ("FERRUM_KV_CAPACITY", "2048", "kv_capacity", 2048),
        ("FERRUM_KV_CAPACITY", "none", "kv_capacity", None),
        ("FERRUM_TRACE_OUT", "/tmp/t.json", "trace_out", Path("/tmp/t.json")),
        ("FERRUM_TRACE", "blk.0.moe, blk.*.output", "trace", ("blk.0.moe", "blk.*.output")),
        ("FERRUM_THREADS", "", "threads", 0),
    ],
)
def test_variables_are_read_by_the_field_s_type(
    variable: str, text: str, name: str, value: Any
) -> None:
    assert getattr(Settings.read({variable: text}), name) == value


def test_a_gpu_s_steps_are_longer_unless_told_otherwise() -> None:
    assert Settings.read({}).step_tokens == 512
    assert Settings.read({"FERRUM_DEVICE": "cuda"}).step_tokens == 2048
    assert Settings(device="cuda").but(max_sequences=4).step_tokens == 2048
    assert Settings(device="cuda", step_tokens=512).step_tokens == 512


@pytest.mark.parametrize("variable", ["FERRUM_MOE_PAHT", "FERRUM_moe_path", "FERRUM_"])
def test_a_variable_that_is_no_setting_is_refused(variable: str) -> None:
    with pytest.raises(SettingsError, match=rf"{variable} -> one of .*FERRUM_MOE_PATH"):
        Settings.read({variable: "one"})


def test_variables_of_others_are_left_alone() -> None:
    others = {"FERRUM_LIBRARY": "/x.so", "FERRUM_SHARED_DATA": "/d", "FERRUM_SERVE_PORT": "1"}
    assert Settings.read(others) == Settings()


@pytest.mark.parametrize(
    ("variable", "text"),
    [("FERRUM_THREADS", "two"), ("FERRUM_PROFILE", "perhaps"), ("FERRUM_KV_CAPACITY", "1.5")],
)
def test_a_variable_without_sense_is_named(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}.*'{text}'"):
        Settings.read({variable: text})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"moe_paht": "one"}, "moe_paht -> one of .*moe_path"),
        ({"moe_path": "fast"}, "moe_path, got 'fast' -> 'auto', 'one', 'few' or 'grouped'"),
        ({"isa": "sse"}, "isa, got 'sse' -> .*'avx2'"),
        ({"threads": "2"}, "threads, got '2' -> .*integer"),
        ({"threads": -1}, "threads, got -1 -> greater than or equal to 0"),
        ({"profile": 1}, "profile, got 1"),
        ({"block_size": 0}, "block_size, got 0"),
        ({"kv_capacity": 0}, "kv_capacity, got 0"),
        ({"speculate": -1}, "speculate, got -1"),
        ({"trace": 7}, "trace, got 7"),
        ({"device": "gpu"}, "device, got 'gpu' -> 'cpu' or 'cuda'"),
        ({"device": "cuda", "kernels": "reference"}, "kernels, got 'reference' -> 'native' with"),
        ({"device": "cuda", "isa": "avx2"}, "isa, got 'avx2' -> 'auto' with device 'cuda'"),
        ({"device": "cuda", "page_in": "faults"}, "page_in, got 'faults' -> 'auto' with"),
        ({"step_tokens": 8, "max_sequences": 9}, "step_tokens, got 8 -> at least max_sequences"),
    ],
)
def test_a_bad_argument_is_named_in_one_line(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        Settings(**values)
    assert "\n" not in str(caught.value)


def test_settings_do_not_change_under_one_s_feet() -> None:
    settings = Settings(threads=2)
    with pytest.raises(ValueError, match="frozen"):
        settings.threads = 3  # type: ignore[misc]
    changed = settings.but(moe_path="one")
    assert (changed.threads, changed.moe_path, settings.moe_path) == (2, "one", "auto")
    with pytest.raises(SettingsError, match="threads"):
        settings.but(threads=-1)
