"""One request to an ASGI application, byte by byte if need be, and its whole answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Answer:
    """What came back; `whole` says whether it was ended."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    def json(self) -> Any:
        return json.loads(self.body)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that is content with everything."""
    await PlainTextResponse("hello")(scope, receive, send)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the request's body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await PlainTextResponse(body)(scope, receive, send)


def ask(
    app: ASGIApp,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    host: str | None = "localhost",
    body: Iterable[bytes] = (),
    stalls: bool = False,
) -> Answer:
    """The answer to a request whose body comes in these pieces, and no further if it stalls."""
    names = {**({} if host is None else {"host": host}), **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in names.items()],
    }
    pieces, sent = list(body), list[Message]()

    async def receive() -> Message:
        if pieces:
            return {
                "type": "http.request",
                "body": pieces.pop(0),
                "more_body": bool(pieces) or stalls,
            }
        if stalls:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    start, *parts = sent or [{"status": 0}]
    return Answer(
        start["status"],
        {k.decode(): v.decode("latin-1") for k, v in start.get("headers", ())},
        b"".join(part.get("body", b"") for part in parts),
        bool(parts) and not parts[-1].get("more_body", False),
    )
