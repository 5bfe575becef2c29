"""The server's settings: strict, from arguments, the environment and a command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from ferrum.runtime.options import add_options, given
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings, SettingsError


def test_the_defaults_are_for_this_machine_alone() -> None:
    defaults = ServeSettings()
    assert defaults.loopback
    assert (defaults.host, defaults.port, defaults.api_key) == ("127.0.0.1", 8080, None)
    assert defaults.cors_origin == ()


def test_arguments_win_over_the_environment_and_that_over_the_defaults() -> None:
    environment = {
        "FERRUM_SERVE_PORT": "1",
        "FERRUM_SERVE_API_KEY": "k",
        "FERRUM_SERVE_HOST": "",  # empty is not set
        "FERRUM_SERVE_PAGE": "no",
        "FERRUM_SERVE_CORS_ORIGIN": "https://a.example, https://b.example",
        "FERRUM_SERVE_MAX_PROMPT": "none",
        "FERRUM_THREADS": "1",  # the model's
    }
    read = ServeSettings.read(environment, port=2)
    assert (read.port, read.api_key, read.host, read.page) == (2, "k", "127.0.0.1", False)
    assert read.cors_origin == ("https://a.example", "https://b.example")
    assert read.max_prompt is None


def test_options_of_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument_group("all"), ServeSettings)
    words = ["--cache-file", "c", "--request-timeout", "2", "--no-page", "--cors-origin",
             "http://a,http://b", "--cors-origin", "http://c", "--api-key", "none"]  # fmt: skip
    read = ServeSettings.read({}, **given(parser.parse_args(words), ServeSettings))
    assert (read.cache_file, read.request_timeout, read.page) == (Path("c"), 2.0, False)
    assert read.cors_origin == ("http://a", "http://b", "http://c")
    assert read.api_key is None


def test_no_option_of_the_server_is_one_of_the_model_too() -> None:
    assert not set(ServeSettings.model_fields) & set(Settings.model_fields)


@pytest.mark.parametrize("name", ServeSettings.model_fields)
def test_every_field_is_described(name: str) -> None:
    assert ServeSettings.model_fields[name].description


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"prot": 1}, r"prot -> one of access_log, .*, port, request_timeout"),
    "port": ({"port": 70000}, "port, got 70000 -> less than or equal to 65535"),
    "type": ({"port": "80"}, "port, got '80' -> a valid integer"),
    "timeout": ({"request_timeout": -1}, "request_timeout, got -1.0 -> greater than or equal to 0"),
    "endless": ({"request_timeout": float("inf")}, "request_timeout, got inf -> a finite number"),
    "body": ({"max_body": 0}, "max_body, got 0 -> greater than or equal to 1"),
    "origins": ({"cors_origin": [1]}, "cors_origin"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_value_is_one_line_with_what_is_allowed(what: str) -> None:
    values, sentence = BAD[what]
    with pytest.raises(SettingsError, match=sentence) as error:
        ServeSettings(**values)
    assert "\n" not in str(error.value)


def test_a_variable_that_is_no_setting_is_named_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match=r"FERRUM_SERVE_PROT -> one of .*FERRUM_SERVE_PORT"):
        ServeSettings.read({"FERRUM_SERVE_PROT": "1"})
    with pytest.raises(SettingsError, match=r"FERRUM_SERVE_PORT: \[port\] got 'x' -> a whole"):
        ServeSettings.read({"FERRUM_SERVE_PORT": "x"})


ORIGINS = ["*", "http://localhost:3000", "https://chat.example", "http://[::1]:8080",
           "http://192.0.2.1", "https://a-b.xn--bcher-kva.example",
           "chrome-extension://abcdefghijklmnop", "http://localhost:443",
           "null", "file://"]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_site_is_what_browsers_call_it(origin: str) -> None:
    assert ServeSettings(cors_origin=origin).cors_origin == (origin,)


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000/", "https://chat.example/app", "localhost:3000", "chat.example",
     "https://", "https://*.example", "https://chat.example?a", "https://me@chat.example",
     "HTTPS://chat.example", "https://Chat.example", "http://localhost:80",
     "https://chat.example:443", "https://bücher.example", "http://localhost:"],
)  # fmt: skip
def test_a_site_that_no_browser_calls_so_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match=r"^\[settings\] cors_origin, got .* -> ") as error:
        ServeSettings(cors_origin=["https://a.example", origin])
    assert repr(origin) in str(error.value)
    assert "scheme://host[:port]" in str(error.value)


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "line\nbreak"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(SettingsError, match="api_key") as error:
        ServeSettings(api_key=key)
    assert not key or key not in str(error.value)


def test_the_key_is_in_no_text_of_the_settings() -> None:
    assert "hush" not in repr(ServeSettings(api_key="hush"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("example.org", False)],
)  # fmt: skip
def test_which_hosts_are_this_machine_alone(host: str, loopback: bool) -> None:
    assert ServeSettings(host=host).loopback == loopback
