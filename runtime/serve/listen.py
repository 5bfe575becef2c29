"""An address to a socket that the server listens at."""

from __future__ import annotations

import socket

from ferrum.runtime.settings import SettingsError


def listen(host: str, port: int) -> socket.socket:
    """A socket at that address that takes no connections yet; SettingsError where it cannot be."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        try:
            # Connections of a server that has just ended do not keep the address.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(where)
        except OSError:
            opened.close()
            raise
    except (OSError, UnicodeError) as error:  # the latter of what can be no name
        why = error.strerror if isinstance(error, OSError) else "no such name can be"
        raise SettingsError(
            f"[settings] host {host}, port {port} cannot be listened at: {why}"
        ) from None
    return opened


def address(listening: socket.socket) -> str:
    """Where clients reach it."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
