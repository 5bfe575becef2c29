"""A model from its file to the end of its server."""

from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path

from ferrum.commands.command_line import complain, tell
from ferrum.runtime.cache_file import CacheFileError
from ferrum.runtime.serve.app import create_app
from ferrum.runtime.serve.listen import address, listen
from ferrum.runtime.serve.server import Server
from ferrum.runtime.serve.service import Service, open_service
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings

# How long another thread (one that renders a long chat, say) may keep Python from the engine's.
# Python's own 5 ms halved the steps' rate beside a busy thread; 0.05 ms cost every step more.
_SWITCH_SECONDS = 0.001


def run(model: Path, settings: Settings, serve: ServeSettings) -> int:
    """Serve a model until a signal ends it; the exit status.

    Raises, before anything is served, what the model, the cache file or the address is refused for.
    """
    _log_to_stderr()
    # The address is taken before the model is loaded, so that one in use is known at once.
    with listen(serve.host, serve.port) as listening:
        service = open_service(model, settings, serve)
        with service.llm:
            _say_before(service)
            # What is there now stays: the collector, which stops every thread, need not look at it.
            gc.collect()
            gc.freeze()
            sys.setswitchinterval(_SWITCH_SECONDS)
            server = Server(create_app(service), service, lambda: _say(service, address(listening)))
            server.run([listening])
            if server.stopped_by is not None:
                return 128 + server.stopped_by
            return 1 if service.engine.failed else _keep_cache(service)


def _say(service: Service, where: str) -> None:
    """The one line that says that requests are taken."""
    capacity = service.llm.session.kv_capacity()
    print(f"ferrum-serve: {service.model_name} at {where}, caches for {capacity:,} tokens",
          flush=True)  # fmt: skip


def _say_before(service: Service) -> None:
    """What whoever starts a server should know of it."""
    serve, llm = service.settings, service.llm
    if not serve.loopback and serve.api_key is None:
        tell("ferrum-serve", f"{serve.host} can be reached from other machines, and without an API "
             "key anybody there may use the model -> FERRUM_SERVE_API_KEY")  # fmt: skip
    if llm.settings.device == "cpu" and not llm.session.pages.fit:
        from ferrum.runtime.bench.streaming import streaming_notice

        tell("ferrum-serve", streaming_notice(llm.artifact, llm.session.pages) or "")


def _keep_cache(service: Service) -> int:
    """Write the cache file, if one is wanted; the exit status."""
    file = service.settings.cache_file
    if file is None:
        return 0
    try:
        blocks = service.llm.save_cache(file)
    except CacheFileError as error:
        return complain("ferrum-serve", error, 1)
    tell("ferrum-serve", f"{blocks:,} blocks of cached prompts in {file}")
    return 0


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("ferrum.serve.access").setLevel(logging.INFO)  # silent unless asked for
