"""Decode steps are captured once for each shape and replayed; nothing else is, nothing moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from cuda_stub_log import Log

from ferrum.runtime.device_binding import DeviceBinding
from ferrum.runtime.llm import LLM
from ferrum.runtime.sampler import SamplingParams
from ferrum.runtime.session import Session

Open = Callable[..., LLM]
ENDLESS: dict[str, Any] = {"ignore_eos": True}


def test_a_decode_step_is_one_upload_one_launch_and_one_download(
    session: Session, log: Log
) -> None:
    session.prefill("a", [1, 2, 3])
    session.decode("a", 4)
    log.clear()
    for token in range(5):
        session.decode("a", token)
    assert (log.uploads, log.count("graph_launch"), log.downloads) == (5, 5, 5)
    assert (log.launches, log.count("malloc"), log.count("capture")) == (0, 0, 0)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("rows", [1, 16])
def test_a_step_of_2_byte_activations_is_captured_as_a_whole_too(
    open_llm: Open, dtype: str, rows: int, log: Log
) -> None:
    session, names = open_llm(dtype).session, [f"{row}" for row in range(rows)]
    for name in names:
        session.prefill(name, [1, 2, 3])
    session.decode_batch([(name, 4) for name in names])
    assert (log.count("capture_begin"), log.count("illegal_in_capture")) == (1, 0)
    log.clear()
    for token in range(5):
        session.decode_batch([(name, token) for name in names])
    assert (log.uploads, log.count("graph_launch"), log.downloads) == (5, 5, 5)
    assert (log.launches, log.count("malloc"), log.count("capture")) == (0, 0, 0)


def test_a_step_with_its_sampling_is_two_launches(open_llm: Open, log: Log) -> None:
    llm = open_llm()
    stream = llm.stream([1, 2, 3], SamplingParams(max_tokens=12, **ENDLESS))
    for _ in range(3):  # the prompt, and the first of a decode's shape
        next(stream)
    log.clear()
    steps = llm.clock.steps
    for _ in range(4):
        next(stream)
    assert llm.clock.steps == steps + 4
    assert log.count("graph_launch") == 8
    assert (log.launches, log.count("malloc"), log.uploads) == (0, 0, 4)


def test_each_shape_is_captured_once(session: Session, log: Log) -> None:
    names = "abcde"
    for name in names:
        session.prefill(name, [1, 2])
    assert log.count("capture_begin") == 0
    for captures, rows in enumerate([1, 2, 4, 5], 1):
        session.decode_batch([(name, 3) for name in names[:rows]])
        assert log.count("capture_begin") == captures
    for rows in (1, 2, 3, 4, 5):  # three are padded to four
        session.decode_batch([(name, 3) for name in names[:rows]])
    assert log.count("capture_begin") == 4
    session.prefill("a", [1] * 200)  # a wider block table
    session.decode_batch([("a", 1), ("b", 1)])
    session.decode("a", 1)
    assert log.count("capture_begin") == 6
    assert log.count("illegal_in_capture") == 0


def test_prompts_are_never_captured(session: Session, log: Log) -> None:
    session.prefill("a", [1, 2, 3])
    session.prefill_all("a", [4, 5, 6, 7])
    session.decode("a", 8)
    log.clear()
    session.prefill("a", [1] * 50)
    session.prefill_all("a", [1] * 3)
    assert log.launches > 0
    assert (log.count("graph_launch"), log.count("capture")) == (0, 0)


def test_nothing_of_a_captured_step_ever_moves(session: Session) -> None:
    def places() -> list[tuple[object, ...]]:
        binding = session._binding
        assert isinstance(binding, DeviceBinding)
        return [
            (shape, bucket.inputs._device.at_least(1).address, binding._logits[shape[0]].address)
            for shape, bucket in binding._buckets.items()
        ] + [(name, memory.address) for name, memory in binding._caches.memory.items()]

    for name in "abc":
        session.prefill(name, [1, 2])
    session.decode_batch([(name, 3) for name in "abc"])
    session.decode("a", 3)
    before = places()
    session.prefill("a", [1] * 500)
    session.prefill_all("b", [1] * 40)
    for _ in range(3):
        session.decode_batch([(name, 3) for name in "bc"])
        session.decode_batch([(name, 3) for name in "abc"])
    assert set(before) <= set(places())


def test_many_requests_do_nothing_illegal(open_llm: Open, log: Log) -> None:
    llm = open_llm(max_sequences=4, step_tokens=16, kv_capacity=320)
    prompts = [[i + 1] * (3 * i + 1) for i in range(9)]
    warm = {"temperature": 0.8, "top_k": 20}
    params = [
        SamplingParams(max_tokens=20 + i, logprobs=2, **(warm if i % 2 else {}), **ENDLESS)
        for i in range(9)
    ]
    results = llm.generate(prompts, params)
    assert [len(result.token_ids) for result in results] == [20 + i for i in range(9)]
    assert log.count("illegal_in_capture") == 0
    assert llm.session.free_blocks() == llm.session.pool.blocks


def test_threads_capture_at_most_twice(open_llm: Open, log: Log) -> None:
    llm = open_llm(max_sequences=1)

    def work() -> None:
        llm.generate([1, 2], SamplingParams(max_tokens=8, **ENDLESS))

    work()
    once = log.count("capture_begin")
    for _ in range(5):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    work()
    assert log.count("capture_begin") == 2 * once


def test_graphs_can_be_turned_off(open_llm: Open, log: Log) -> None:
    llm = open_llm(cuda_graphs=False)
    llm.generate([[1, 2, 3], [4]], SamplingParams(max_tokens=4, **ENDLESS))
    assert log.launches > 0
    assert (log.count("graph_launch"), log.count("capture")) == (0, 0)


def test_a_trace_runs_uncaptured(open_llm: Open, log: Log) -> None:
    llm = open_llm(trace=("blk.0.moe",))
    llm.generate([1, 2, 3], SamplingParams(max_tokens=4, **ENDLESS))
    assert llm.trace.arrays()["blk.0.moe"].shape[0] == 3 + 3
    assert (log.count("graph_launch"), log.count("capture")) == (0, 0)


def test_scores_and_warm_ups_run(open_llm: Open, log: Log) -> None:
    llm = open_llm()
    llm.prepare(100)
    assert llm.score([1, 2, 3]).shape == (2,)
    assert log.count("illegal_in_capture") == 0
    assert llm.session.free_blocks() == llm.session.pool.blocks
