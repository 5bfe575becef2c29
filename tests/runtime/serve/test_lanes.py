"""Long work keeps only its like waiting, and is not begun when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ferrum.runtime.serve.lanes import Lanes

LARGE = b"x" * (1 << 20)


@pytest.fixture
def lanes() -> Any:
    lanes = Lanes()
    yield lanes
    lanes.close()


def held(event: threading.Event) -> Callable[[bytes], None]:
    return lambda _: None if event.wait(60) else pytest.fail("nobody let it go on")


def test_small_bodies_pass_large_ones_and_grammars(lanes: Lanes) -> None:
    go_on = threading.Event()

    async def test() -> None:
        large = lanes.read(held(go_on), LARGE)
        grammar = lanes.compile(lambda: held(go_on)(b""))
        assert await lanes.read(len, b"small") == 5
        assert not large.done()
        assert not grammar.done()
        go_on.set()
        await asyncio.gather(large, grammar)

    asyncio.run(test())


def test_work_that_is_given_up_before_its_turn_is_not_done(lanes: Lanes) -> None:
    go_on, begun = threading.Event(), []

    async def test() -> None:
        first = lanes.read(held(go_on), LARGE)
        second, third = lanes.read(begun.append, LARGE), lanes.read(len, LARGE)
        second.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await first
        assert await third == len(LARGE)
        assert begun == []

    asyncio.run(test())
