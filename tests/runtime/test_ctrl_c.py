"""Ctrl-C waits for books to be put right: wherever it comes, nobody's block or token is lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tiny_export import expected_logits, greedy

import ferrum.runtime
from ferrum.runtime.ctrl_c import ctrl_c_waits
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.session import Session
from ferrum.runtime.stream import Stream

RUNTIME = str(Path(next(iter(ferrum.runtime.__path__))))
ENDLESS = SamplingParams(max_tokens=8, ignore_eos=True)


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_comes_at_the_end() -> None:
    reached = []

    def work() -> None:
        with ctrl_c_waits:
            with ctrl_c_waits:
                ctrl_c()
            reached.append("inner")
        reached.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["inner"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with ctrl_c_waits:
        pass  # nothing is left of it


def test_a_second_one_comes_at_once() -> None:
    reached = []

    def work() -> None:
        with ctrl_c_waits:
            ctrl_c()
            reached.append("one")
            ctrl_c()
            reached.append("two")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["one"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_is_heeded_where_work_says_so() -> None:
    reached = []

    def work() -> None:
        with ctrl_c_waits:
            ctrl_c_waits.heed()
            ctrl_c()
            reached.append("before")
            ctrl_c_waits.heed()
            reached.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["before"]


def test_it_is_told_beside_an_error() -> None:
    def work() -> None:
        with ctrl_c_waits:
            ctrl_c()
            raise ValueError

    with pytest.raises(KeyboardInterrupt) as told:
        work()
    assert isinstance(told.value.__context__, ValueError)


def test_an_applications_own_handler_is_called() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        with ctrl_c_waits:
            ctrl_c()
            assert seen == []
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_it_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ctrl_c_waits:
            ctrl_c()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_hold_nothing() -> None:
    def work() -> None:
        with ctrl_c_waits:
            inside.set()
            over.wait()

    inside, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    over.set()
    thread.join()


class Lines:
    """Counts the lines of the runtime that run, and sends Ctrl-C before one of them."""

    def __init__(self, chosen: int) -> None:
        self._left = chosen

    @property
    def over(self) -> bool:
        """Whether that line was there."""
        return self._left < 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Lines | None:
        if not frame.f_code.co_filename.startswith(RUNTIME):
            return None
        if event == "line":
            self._left -= 1
            if self._left == -1:
                ctrl_c()
        return self


def interrupted(work: Callable[[], object], line: int) -> bool:
    """Do work with Ctrl-C before one of its lines; whether it has so many."""
    before, lines = sys.gettrace(), Lines(line)
    sys.settrace(lines)
    try:
        work()
    except KeyboardInterrupt:
        assert lines.over
        return True
    finally:
        sys.settrace(before)
    assert not lines.over
    return False


def every_few_lines(begin: Callable[[], Callable[[], object]]) -> Iterator[int]:
    """Interrupt what `begin` returns at one line after the other, and give each.

    Not at all of them, for it is slow: enough to find what any of them would lose.
    """
    for line in count(0, 3):
        if not interrupted(begin(), line):
            assert line > 30
            return
        yield line


def check_all_is_well(llm: LLM) -> None:
    """The lock is nobody's, and no block anybody's."""
    taken: list[bool] = []

    def take() -> None:
        with llm.lock:
            taken.append(True)

    other = threading.Thread(target=take, daemon=True)
    other.start()
    other.join(10)
    assert taken == [True]
    assert llm.engine.idle
    assert llm.session.free_blocks() == llm.session.pool.blocks


def test_at_no_line_of_a_step_is_a_token_or_a_block_lost(tiny_llm: Callable[..., LLM]) -> None:
    llm = tiny_llm(kv_capacity=32)  # 8 blocks: the two must take turns
    streams: list[Stream] = []

    def begin() -> Callable[[], object]:
        llm.engine.prefix.clear()
        streams[:] = llm.stream([1, 2] * 5, ENDLESS), llm.stream([3] * 9, ENDLESS)
        return lambda: [next(streams[0]) for _ in range(4)]

    for _ in every_few_lines(begin):
        one, two = (stream.finish() for stream in streams)
        assert one.token_ids == greedy([1, 2] * 5, 8)
        assert two.token_ids == greedy([3] * 9, 8)
        assert two.text == llm.tokenizer.decode(two.token_ids)
        check_all_is_well(llm)


def test_at_no_line_of_beginning_and_closing_does_a_request_stay(
    tiny_llm: Callable[..., LLM],
) -> None:
    llm = tiny_llm(prefix_reuse=False)
    kept = []  # Python itself swallows what a destructor raises

    def begin_and_close() -> None:
        kept.append(llm.stream([1, 2, 3], ENDLESS))
        next(kept[-1])
        kept[-1].close()

    for _ in every_few_lines(lambda: begin_and_close):
        assert llm.generate([[4]], ENDLESS)[0].token_ids == greedy([4], 8)
        check_all_is_well(llm)


def test_at_no_line_of_a_sessions_step_is_half_of_it_done(
    tiny_session: Callable[..., Session],
) -> None:
    session = tiny_session()
    session.prefill("a", [1, 2, 3])
    session.prefill("b", [7] * 4)

    def begin() -> Callable[[], object]:
        return lambda: session.step([("a", [5]), ("b", [6] * 5)])

    for _ in every_few_lines(begin):
        assert [session.length(seq) for seq in "ab"] == [3, 4]
        assert session.free_blocks() == session.pool.blocks - 2
    assert [session.length(seq) for seq in "ab"] == [4, 9]  # the one that was not interrupted
    for seq, tokens in (("a", [1, 2, 3, 5]), ("b", [7] * 4 + [6] * 5)):
        assert (session.decode(seq, 9) == expected_logits([*tokens, 9])).all()


def test_scores_of_a_long_text_need_not_come_to_their_end(tiny_llm: Callable[..., LLM]) -> None:
    llm = tiny_llm(step_tokens=16)
    run, runs = llm.session._binding.run, []

    def counted(arrays: Any) -> Any:
        if not runs:
            ctrl_c()
        runs.append(True)
        return run(arrays)

    llm.session._binding.run = counted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        llm.score([1] * 80)
    assert len(runs) == 1
    assert llm.session.sequences == []
    check_all_is_well(llm)
