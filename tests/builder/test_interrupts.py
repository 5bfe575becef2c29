"""Signals end a build as exceptions, wait while they are held, and are given back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from ferrum.builder.interrupts import catch_interrupts

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_are_given_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
)
def test_a_signal_raises(number: signal.Signals, raised: type[BaseException]) -> None:
    with pytest.raises(raised) as error, catch_interrupts():
        signal.raise_signal(number)
    if raised is SystemExit:
        assert error.value.args == (128 + number,)


def test_a_held_signal_waits_for_the_release() -> None:
    reached = []

    def work() -> None:
        with catch_interrupts() as signals:
            signals.hold()
            signal.raise_signal(signal.SIGTERM)
            reached.append("held")
            signals.release()
            reached.append("released")

    with pytest.raises(SystemExit):
        work()
    assert reached == ["held"]


def test_a_signal_still_held_at_the_end_is_not_lost() -> None:
    def work() -> None:
        with catch_interrupts() as signals:
            signals.hold()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_interrupts():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_applications_own_handler_is_called() -> None:
    seen = []

    def note(number: int, _frame: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        with catch_interrupts() as signals:
            signals.hold()
            signal.raise_signal(signal.SIGTERM)
            assert seen == []
            signals.release()
            assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_may_build_too() -> None:
    done = []

    def work() -> None:
        with catch_interrupts() as signals:
            signals.hold()
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
