"""Pages of other sites, and names that are not ours."""

from __future__ import annotations

import pytest
from asgi import ask, hello

from ferrum.runtime.serve.foreign_pages import ForeignPages
from ferrum.runtime.serve.settings import ServeSettings

HERE = "127.0.0.1:8080"


def status(settings: ServeSettings, host: str | None, origin: str | None = None) -> int:
    headers = {} if origin is None else {"origin": origin}
    answer = ask(ForeignPages(hello, settings), headers=headers, host=host)
    if answer.status == 403:
        assert answer.json()["error"]["code"] in ("origin_refused", "host_refused")
    return answer.status


@pytest.mark.parametrize(
    ("host", "origin"),
    [(HERE, None), (HERE, f"http://{HERE}"), ("localhost:8080", "http://localhost:8080"),
     ("[::1]:8080", "http://[::1]:8080"), ("LOCALHOST", "https://localhost"), (None, None)],
)  # fmt: skip
def test_our_own_page_and_programs_are_let_in(host: str | None, origin: str | None) -> None:
    assert status(ServeSettings(), host, origin) == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", f"http://{HERE}.evil.example", "http://127.0.0.1:80", "",
     "http://[", "file://", HERE],
)  # fmt: skip
def test_pages_of_other_sites_are_refused(origin: str) -> None:
    assert status(ServeSettings(), HERE, origin) == 403
    assert status(ServeSettings(api_key="k"), HERE, origin) == 403


def test_sites_that_are_named_are_let_in() -> None:
    settings = ServeSettings(cors_origin="https://a.example,https://b.example")
    assert status(settings, HERE, "https://b.example") == 200
    assert status(settings, HERE, "https://c.example") == 403
    assert status(ServeSettings(cors_origin="*"), HERE, "https://c.example") == 200


@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:8080", "localhost.evil", ""])
def test_a_foreign_name_for_this_machine_is_refused(host: str) -> None:
    assert status(ServeSettings(), host, f"http://{host}") == 403


@pytest.mark.parametrize(
    "settings",
    [ServeSettings(allowed_host="chat.example"), ServeSettings(allowed_host="Chat.Example"),
     ServeSettings(allowed_host="*"),
     ServeSettings(api_key="k"), ServeSettings(host="0.0.0.0")],
)  # fmt: skip
def test_names_are_fine_where_they_are_expected(settings: ServeSettings) -> None:
    assert status(settings, "chat.example:8080") == 200


def test_an_address_is_no_name() -> None:
    assert status(ServeSettings(), "192.0.2.7:80") == 200
