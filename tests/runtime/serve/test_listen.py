"""Addresses that can be listened at, and those that cannot."""

from __future__ import annotations

import socket

import pytest

from ferrum.runtime.serve.listen import address, listen
from ferrum.runtime.settings import SettingsError


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("localhost", "http://")]
)
def test_a_free_port_is_taken(host: str, url: str) -> None:
    with listen(host, 0) as one, listen(host, 0) as other:
        assert address(one).startswith(url)
        assert not address(one).endswith(":0")
        assert address(one) != address(other)


def test_addresses_of_ipv6_are_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with listen("::1", 0) as one:
        assert address(one).startswith("http://[::1]:")


def test_nobody_is_let_in_before_the_server_listens() -> None:
    with listen("127.0.0.1", 0) as one, pytest.raises(ConnectionRefusedError):
        socket.create_connection(one.getsockname()[:2])


def test_a_port_that_is_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"host 127\.0\.0\.1, port {port} .* in use"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    "host", ["nowhere.invalid", "192.0.2.1", ".example", 64 * "x" + ".example"]
)
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match=host):
        listen(host, 0)
