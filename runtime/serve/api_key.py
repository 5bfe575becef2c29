"""Who may ask: those who send the key.

Open to all are only the paths that say nothing of anybody's work: /health, which load balancers
ask, the chat page, which asks for the key itself, and the API's description. What /metrics counts
is nobody else's business.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ferrum.runtime.serve.errors import ApiError

OPEN = frozenset({"/", "/health", "/openapi.json"})


class ApiKey:
    """401 for requests without `Authorization: Bearer KEY`."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN and not self._has_key(scope):
            await _REFUSED.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        # In a time that does not tell how much of the key was right.
        same = hmac.compare_digest(key.strip().encode("latin-1"), self._key)
        return same and scheme.lower() == "bearer"


_REFUSED = ApiError(
    401,
    "no API key, or a wrong one -> the header 'Authorization: Bearer KEY'",
    code="invalid_api_key",
    headers={"WWW-Authenticate": "Bearer"},
)
