"""Steps over IO-binding: caches are bound once, inputs only where their place or shape changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_export import expected_logits

from ferrum.runtime.binding import GraphError
from ferrum.runtime.session import Session


class Recorder:
    """Notes which names are bound, and binds them."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._binding, name)
        if not name.startswith("bind_"):
            return found

        def bind(port: str, *values: Any) -> Any:
            self.names.append(port)
            return found(port, *values)

        return bind


@pytest.fixture
def recorded(tiny_session: Callable[..., Session]) -> tuple[Session, Recorder]:
    session = tiny_session()
    session.prefill("a", [1, 2, 3])
    session.prefill("b", [1, 2, 3, 4])
    recorder = session._binding._binding = Recorder(session._binding._binding)  # type: ignore[assignment]
    return session, recorder  # type: ignore[return-value]


def test_a_decode_like_the_last_rebinds_nothing(recorded: tuple[Session, Recorder]) -> None:
    session, recorder = recorded
    session.decode("b", 5)
    recorder.names.clear()
    for token in (6, 7, 8):  # within one block
        session.decode("b", token)
    assert recorder.names == []
    assert np.array_equal(session.decode("b", 9), expected_logits([1, 2, 3, 4, 5, 6, 7, 8, 9]))


def test_a_new_block_rebinds_only_the_table(recorded: tuple[Session, Recorder]) -> None:
    session, recorder = recorded
    session.decode("a", 4)
    recorder.names.clear()
    session.decode("a", 5)
    assert recorder.names == ["block_table"]


def test_caches_are_never_bound_again(recorded: tuple[Session, Recorder]) -> None:
    session, recorder = recorded
    session.decode_batch([("a", 1), ("b", 2)])
    session.prefill("a", list(range(40)))
    session.prefill_all("b", list(range(20)))
    assert recorder.names
    assert not [name for name in recorder.names if name.startswith(("past_key", "present"))]


def test_the_graph_writes_into_the_caches_themselves(tiny_session: Callable[..., Session]) -> None:
    session = tiny_session()
    arrays = session._binding._caches.arrays
    session.prefill("a", [1, 2, 3])
    written = [np.count_nonzero(array.any(-1)) for array in arrays.values()]
    assert written == [3, 3, 3, 3]


def test_a_step_that_the_graph_refuses_is_one_clear_line(
    tiny_session: Callable[..., Session],
) -> None:
    session = tiny_session()
    session.prefill("a", [1, 2, 3])
    session._sequences["a"]._table[0] = 1 << 30  # a block outside the caches
    with pytest.raises(GraphError, match=r"^\[graph\] ") as caught:
        session.decode("a", 4)
    assert "\n" not in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)
