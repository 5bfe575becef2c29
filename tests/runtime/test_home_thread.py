"""Work stays in one thread."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from ferrum.runtime.home_thread import HomeThread


def elsewhere(home: HomeThread) -> int:
    """Where work runs that another thread asks for."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(home.run(threading.get_ident)))
    thread.start()
    thread.join()
    return found[0]


def test_the_only_thread_runs_its_work_itself() -> None:
    home = HomeThread()
    assert {home.run(threading.get_ident) for _ in range(3)} == {threading.get_ident()}


def test_with_a_second_thread_all_work_moves_to_one_of_its_own() -> None:
    home = HomeThread()
    home.run(threading.get_ident)
    own = elsewhere(home)
    assert own != threading.get_ident()
    assert {home.run(threading.get_ident), elsewhere(home)} == {own}


def test_what_work_raises_comes_back() -> None:
    home = HomeThread()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            home.run(lambda: 1 // 0)  # type: ignore[arg-type]
        elsewhere(home)


def test_a_thread_that_comes_after_the_first_has_ended_is_another() -> None:
    """Though the system may give it the first one's number."""
    home = HomeThread()
    elsewhere(home)
    own = elsewhere(home)
    assert own != threading.get_ident()
    assert {elsewhere(home), home.run(threading.get_ident)} == {own}


@pytest.mark.parametrize("begun", [True, False])
def test_who_is_interrupted_leaves_no_work_behind(
    begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = HomeThread()
    for _ in range(2):
        elsewhere(home)
    assert home._own is not None
    working, go_on, over = threading.Event(), threading.Event(), []
    before = None if begun else home._own.submit(go_on.wait, 60)

    def work() -> None:
        working.set()
        assert go_on.wait(60)
        over.append(True)

    def interrupted(_: Future[None]) -> None:
        if begun:
            assert working.wait(60)
            threading.Timer(0.05, go_on.set).start()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            home.run(work)
    assert over == [True] * begun
    go_on.set()
    assert before is None or before.result()
    home.run(lambda: None)
    assert over == [True] * begun
