"""Work stays in one thread."""

from __future__ import annotations

import threading

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
