"""A server's port is its own from the moment that it was chosen."""

from __future__ import annotations

import socket

import pytest

from ferrum.runtime.bench.serving.server import reserved_port
from ferrum.runtime.serve.listen import listen


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_reserved_port_is_free_for_its_server_alone(option: int) -> None:
    with reserved_port() as reserved:
        where = reserved.getsockname()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(where)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where)
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, option, 1)
            server.bind(where)
            server.listen()
            socket.create_connection(where).close()


def test_ferrum_serve_may_have_it() -> None:
    with reserved_port() as reserved, listen(*reserved.getsockname()) as server:
        server.listen()
        socket.create_connection(reserved.getsockname()).close()
