"""Models in several threads: none disturbs another's capture, and graphs are captured once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cuda_stub_log import Log

from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams

SHORT = SamplingParams(max_tokens=6, ignore_eos=True)


def test_two_models_at_work_at_once_disturb_each_other_not(
    open_llm: Callable[..., LLM], log: Log
) -> None:
    """While one captures, CUDA refuses what may wait for the GPU in every other thread."""
    models = [open_llm(), open_llm("f16")]

    def work(llm: LLM) -> None:
        for count in range(1, 7):
            prompts = [[i + 1] * (40 * count) for i in range(count)]
            assert len(llm.generate(prompts, SHORT)) == count

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(work, llm) for llm in models]:
            done.result()
    assert log.count("capture_begin") >= 6
    assert [line for line in log.lines() if "illegal" in line] == []


def test_threads_that_come_and_go_capture_no_graph_again(
    open_llm: Callable[..., LLM], log: Log
) -> None:
    llm = open_llm(max_sequences=1)
    captures = []
    for _ in range(5):
        thread = threading.Thread(target=llm.generate, args=([1, 2], SHORT))
        thread.start()
        thread.join()
        captures.append(log.count("capture_begin"))
    assert captures[0] > 0
    assert captures[1:] == [2 * captures[0]] * 4  # once more, in a thread of their own


def test_a_model_may_be_opened_and_closed_while_another_captures(
    open_llm: Callable[..., LLM], exported: Path, log: Log
) -> None:
    llm = open_llm()

    def capture() -> None:
        for count in range(1, 9):
            llm.generate([[i + 1] * (40 * count) for i in range(count)], SHORT)

    def come_and_go() -> None:
        for _ in range(3):
            with LLM(exported, device="cuda", threads=1, kv_capacity=2048) as other:
                other.generate([1, 2], SHORT)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(capture), threads.submit(come_and_go)]:
            done.result()
    assert [line for line in log.lines() if "illegal" in line] == []
