"""A service of this process while a coroutine uses it."""

from __future__ import annotations

import asyncio
from typing import Any

from ferrum.runtime.llm import LLM
from ferrum.runtime.serve.service import Service
from ferrum.runtime.serve.settings import ServeSettings


def run_with_service(llm: LLM, test: Any, **settings: Any) -> None:
    """A coroutine with a running service; every block is back when it is done."""

    async def within() -> None:
        service = Service.of(llm, ServeSettings(**settings))
        async with service.running():
            await asyncio.wait_for(test(service), 60)

    asyncio.run(within())
    assert llm.engine.idle
    assert llm.session.pool.used == 0
