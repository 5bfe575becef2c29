"""A mask is called once for each token, by a worker where it is begun in time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest

from ferrum.runtime.mask_ahead import Allowed, MaskAhead


class Recorder:
    """A mask that writes down where and with what it is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []

    def __call__(self, generated: Sequence[int]) -> Allowed | None:
        self.calls.append((threading.current_thread().name, list(generated)))
        if len(generated) == 2:
            raise RuntimeError("the grammar is broken")
        return np.ones(3, np.bool_) if generated else None


@pytest.fixture
def workers() -> Iterator[Executor]:
    with ThreadPoolExecutor(1, "worker") as executor:
        yield executor


def test_what_was_begun_is_collected_and_else_it_is_called(workers: Executor) -> None:
    recorder = Recorder()
    mask = MaskAhead(recorder)
    mask.begin(workers, [])
    assert mask([]) is None
    assert mask([5]) is not None
    assert recorder.calls == [("worker_0", []), (threading.current_thread().name, [5])]


def test_after_a_step_that_failed_it_is_not_called_again(workers: Executor) -> None:
    recorder = Recorder()
    mask = MaskAhead(recorder)
    for _ in range(3):
        mask.begin(workers, [7])
    assert mask([7]) is not None
    assert len(recorder.calls) == 1


def test_what_the_mask_raises_is_raised_where_it_is_collected(workers: Executor) -> None:
    mask = MaskAhead(Recorder())
    mask.begin(workers, [1, 2])
    with pytest.raises(RuntimeError, match="grammar"):
        mask([1, 2])
