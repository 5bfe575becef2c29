"""ferrum-serve's own application on a port of this machine, for tests that are its browser.

What the sample model would never say (markup, thoughts, a broken stream) can be staged: an answer
that is put into `staged` is sent in place of the application's next one. What the model itself
says is drawn with the same seed in every run, unless a request brings one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from ferrum.runtime.serve.app import create_app
from ferrum.runtime.serve.service import Service, open_service
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings

CHAT = "/v1/chat/completions"
SEED = 1  # of requests without one: a test must not hang on what a model happens to say
Receive = Callable[[], Any]
Send = Callable[[MutableMapping[str, Any]], Any]


@dataclass(frozen=True)
class Staged:
    """An answer of the chat endpoint: events of a stream, or a refusal."""

    events: tuple[dict[str, Any] | str, ...] = ()
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    open_end: bool = False  # the stream is held open until the client goes
    after: threading.Event | None = None  # what the answer waits for

    @classmethod
    def text(cls, content: str, reasoning: str = "", *, open_end: bool = False) -> Staged:
        """An answer in events of a few characters, as a model would send it."""
        deltas = [{"reasoning_content": part} for part in _parts(reasoning)]
        deltas += [{"content": part} for part in _parts(content)]
        events: list[dict[str, Any] | str] = [{"choices": [{"delta": delta}]} for delta in deltas]
        if not open_end:
            events += [
                {"choices": [{"delta": {}, "finish_reason": "stop"}]},
                {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": len(deltas)}},
                "[DONE]",
            ]
        return cls(tuple(events), open_end=open_end)


@dataclass
class PageServer:
    """A running server: where it is, what it was asked, and its parts."""

    url: str
    service: Service
    staged: deque[Staged] = field(default_factory=deque)
    asked: list[dict[str, Any]] = field(default_factory=list)  # bodies of chat requests
    left: int = 0  # staged streams that the client has left
    loop: asyncio.AbstractEventLoop | None = None

    def drain(self) -> None:
        """Have it take no new requests."""
        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(self.service.engine.drain(), self.loop).result(120)


@contextmanager
def serving(model: Path, settings: Settings, **serve: Any) -> Iterator[PageServer]:
    """Serve a model on a free port while the block runs."""
    service = open_service(model, settings, ServeSettings(**serve))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = PageServer(f"http://127.0.0.1:{listener.getsockname()[1]}", service)
        app = _in_front(create_app(service), server)
        runner = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        )

        async def run() -> None:
            server.loop = asyncio.get_running_loop()
            await runner.serve(sockets=[listener])

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        try:
            while not runner.started and thread.is_alive():
                time.sleep(0.01)
            yield server
        finally:
            runner.should_exit = True
            thread.join()
            service.llm.close()


def _in_front(app: Any, server: PageServer) -> Any:
    """The application, with chat requests noted and staged answers sent."""

    async def asked(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != CHAT:
            await app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        request = json.loads(body)
        server.asked.append(request)
        if server.staged:
            await _send(server.staged.popleft(), server, receive, send)
            return
        seeded = json.dumps({"seed": SEED, **request}).encode()
        unread = [{"type": "http.request", "body": seeded}]

        async def again() -> Any:
            return unread.pop() if unread else await receive()

        await app(scope, again, send)

    return asked


async def _send(answer: Staged, server: PageServer, receive: Receive, send: Send) -> None:
    if answer.after is not None:
        await asyncio.to_thread(answer.after.wait)
    kind = "text/event-stream" if answer.events else "application/json"
    headers = [(b"content-type", kind.encode())]
    headers += [(name.encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for event in answer.events:
        data = event if isinstance(event, str) else json.dumps(event)
        line = f"data: {data}\n\n".encode()
        await send({"type": "http.response.body", "body": line, "more_body": True})
    if answer.open_end:
        while (await receive())["type"] != "http.disconnect":
            pass
        server.left += 1
        return
    await send({"type": "http.response.body", "body": answer.body.encode()})


def _parts(text: str, size: int = 7) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
