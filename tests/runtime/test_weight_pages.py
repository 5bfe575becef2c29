"""Room for the weights decides how they come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrum.custom_ops.library import PageIn
from ferrum.runtime import weight_pages
from ferrum.runtime.weight_pages import WeightPages


def test_sizes_of_all_files_and_the_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_pages, "free_memory", lambda: 2000)  # others take and give it back
    for name, size in (("a", 1000), ("b", 24)):
        (tmp_path / name).write_bytes(bytes(size))
    pages = WeightPages.of([tmp_path / "a", tmp_path / "b"])
    assert pages.size == 1024
    assert pages.room == 2000
    assert pages.fit


@pytest.mark.parametrize(("room", "way"), [(1000, "faults"), (999, "experts"), (0, "experts")])
def test_auto_asks_for_experts_where_the_weights_do_not_fit(room: int, way: PageIn) -> None:
    pages = WeightPages(1000, room)
    assert pages.fit == (way == "faults")
    assert pages.way("auto") == way
    assert (pages.way("faults"), pages.way("experts")) == ("faults", "experts")
