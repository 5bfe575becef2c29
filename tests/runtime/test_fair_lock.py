"""The lock of a model: one thread at a time, in turns, whatever interrupts one that waits."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from ferrum.runtime.fair_lock import FairLock


def test_a_thread_may_take_it_again_and_gives_it_back_once_for_each() -> None:
    lock, inside = FairLock(), []
    with lock:
        with lock:
            pass
        other = threading.Thread(target=lambda: enter(lock, inside))
        other.start()
        other.join(0.05)
        assert inside == []
    other.join()
    assert inside == [True]


def enter(lock: FairLock, inside: list[bool]) -> None:
    with lock:
        inside.append(True)


def test_a_loop_that_takes_it_for_each_turn_lets_others_in_between() -> None:
    lock, turns, begun = FairLock(), [0], threading.Event()

    def loop() -> None:
        for _ in range(200):
            with lock:
                turns[0] += 1
                begun.set()
                time.sleep(0.002)

    thread = threading.Thread(target=loop)
    thread.start()
    begun.wait()
    for _ in range(5):
        with lock:
            pass
    assert turns[0] < 100
    thread.join()


def test_an_interrupt_of_one_that_waits_leaves_it_to_the_others() -> None:
    class Interrupt(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    lock, held, over = FairLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupt), lock:
            pass
    finally:
        signal.signal(signal.SIGALRM, before)
    over.set()
    holder.join()
    inside: list[bool] = []
    third = threading.Thread(target=enter, args=(lock, inside))
    third.start()
    third.join(10)
    assert inside == [True]


def test_ctrl_c_ends_the_waiting_and_waits_for_one_that_has_it() -> None:
    lock, held, over = FairLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait()

    def interrupt() -> None:
        time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    threading.Thread(target=hold).start()
    held.wait()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt), lock:
        pass
    over.set()
    reached = []

    def work() -> None:
        with lock:
            signal.raise_signal(signal.SIGINT)
            reached.append("end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["end"]
