"""GET /: the chat page, one file that may load nothing and speak to no one but this server."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response


class ChatPage:
    """The page as an endpoint; its own script and style are allowed by their hashes."""

    def __init__(self) -> None:
        self._html = (files("ferrum.runtime.serve") / "page" / "index.html").read_bytes()
        self._headers = {
            "content-type": "text/html; charset=utf-8",
            "content-security-policy": _policy(self._html),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }

    async def __call__(self, request: Request) -> Response:
        """The page."""
        return Response(self._html, headers=self._headers)


def _policy(html: bytes) -> str:
    """A Content-Security-Policy that allows what the page holds, and requests to its server."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(html, b'script')}",
            f"style-src {_hash(html, b'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash(html: bytes, tag: bytes) -> str:
    """What allows the page's one element of a kind: the hash of the bytes between its tags."""
    blocks = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    assert len(blocks) == 1, f"the page has one <{tag.decode()}>, without attributes"
    digest = base64.b64encode(hashlib.sha256(blocks[0]).digest()).decode()
    return f"'sha256-{digest}'"
