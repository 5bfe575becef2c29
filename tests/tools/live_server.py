"""ferrum-serve's application on a free port of this machine, for tests that are its clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from ferrum.runtime.serve.app import create_app
from ferrum.runtime.serve.http_protocol import HttpProtocol
from ferrum.runtime.serve.service import Service


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """The address at which a service answers, from a thread, while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(service)
        # A connection that its client has kept is there however late the next request comes.
        config = uvicorn.Config(app, http=HttpProtocol, log_level="warning", lifespan="on",
                                timeout_keep_alive=600)  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            assert server.started
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)
