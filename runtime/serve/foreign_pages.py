"""Web pages that somebody's browser has open may not use a server of theirs unasked.

Any page can have its visitor's browser send requests to 127.0.0.1. Such a request names the page's
site in its Origin header, which a page cannot change; and where the site has pointed its own name
at 127.0.0.1 (DNS rebinding), the Host header has that name, which is not one of ours.
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ferrum.runtime.serve.errors import ApiError
from ferrum.runtime.serve.settings import ServeSettings


class ForeignPages:
    """403 for requests of pages that are neither ours nor of a site in `cors_origin`.

    Where the server listens on this machine alone and has no key, it must also be asked by an
    address, as localhost, or by a name in `allowed_host`.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._origins = app, frozenset(settings.cors_origin)
        guarded = settings.loopback and settings.api_key is None
        names = settings.allowed_host if guarded else ("*",)
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refused = self._refuse(headers.get("origin"), headers.get("host"))
            if refused is not None:
                await refused.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refuse(self, origin: str | None, host: str | None) -> ApiError | None:
        if host is not None and not self._known(host):
            return ApiError(
                403, "asked by a name that is not known here -> --allowed-host, or an --api-key",
                code="host_refused")  # fmt: skip
        if origin is None or "*" in self._origins or origin in self._origins:
            return None
        if host is not None and origin.partition("://")[2].lower() == host.lower():
            return None
        return ApiError(
            403, "asked by a web page of another site -> --cors-origin", code="origin_refused"
        )

    def _known(self, host: str) -> bool:
        if "*" in self._names:
            return True
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower()
        return name == "localhost" or name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
