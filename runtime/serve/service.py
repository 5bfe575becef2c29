"""All that answering a request needs, in one place."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ferrum.runtime.grammar import Grammars
from ferrum.runtime.llm import LLM
from ferrum.runtime.serve.engine_thread import EngineThread
from ferrum.runtime.serve.lanes import Lanes
from ferrum.runtime.serve.metrics import Metrics
from ferrum.runtime.serve.settings import ServeSettings
from ferrum.runtime.settings import Settings


@dataclass(frozen=True)
class Service:
    """A model and what is around it while it is served."""

    llm: LLM
    engine: EngineThread
    settings: ServeSettings
    metrics: Metrics
    lanes: Lanes
    grammars: Grammars
    model_name: str
    created: int  # seconds since 1970, for the list of models

    @classmethod
    def of(cls, llm: LLM, settings: ServeSettings) -> Service:
        """A model that is loaded, to be served; nothing runs yet."""
        metrics = Metrics(llm)
        return cls(
            llm=llm,
            engine=EngineThread(llm, metrics, settings.max_queue, settings.request_timeout),
            settings=settings,
            metrics=metrics,
            lanes=Lanes(),
            grammars=Grammars(llm.tokenizer, llm.session.vocabulary),
            model_name=settings.model_name or llm.artifact.path.stem,
            created=int(time.time()),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engine's thread while the block runs; requests that are left at its end stop."""
        self.engine.start()
        try:
            yield
        finally:
            self.engine.stop()
            self.lanes.close()
            await self.engine.stopped()


def open_service(model: str | Path, settings: Settings, serve: ServeSettings) -> Service:
    """Load a model to serve it: warmed up, its cache file restored.

    Raises what LLM raises, and CacheFileError where the cache file is of another model.
    """
    llm = LLM(model, settings)
    try:
        service = Service.of(llm, serve)
        service.engine.prepare()
        try:
            if serve.cache_file is not None and serve.cache_file.exists():
                llm.load_cache(serve.cache_file)
        except BaseException:
            service.engine.stop()
            raise
        return service
    except BaseException:
        llm.close()
        raise
