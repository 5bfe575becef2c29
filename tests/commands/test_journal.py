"""Files of two builds in one folder are noticed, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrum.commands.journal import JOURNAL, half_done, identity

NAMES = ("weights.bin", "model.onnx")


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What a build has left that was killed when one of its two files had moved."""
    staging = tmp_path / ".ferrum-1-00000000"
    (staging / "new").mkdir(parents=True)
    for name in NAMES:
        (staging / "new" / name).write_text("new")
        (tmp_path / name).write_text("old")
    moved = {name: identity(staging / "new" / name) for name in NAMES}
    (staging / JOURNAL).write_text(json.dumps(moved))
    (staging / "new" / NAMES[0]).replace(tmp_path / NAMES[0])
    return staging


def test_one_of_two_files_is_half(left: Path) -> None:
    assert half_done(left.parent)


def test_all_and_none_are_whole(left: Path, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).replace(left / "new" / NAMES[0])
    assert not half_done(tmp_path)
    for name in NAMES:
        (left / "new" / name).replace(tmp_path / name)
    assert not half_done(tmp_path)


def test_a_later_build_over_it_is_whole(left: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / "later").write_text("later")
        (tmp_path / "later").replace(tmp_path / name)
    assert not half_done(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"weights.bin": 3}'])
def test_a_journal_that_cannot_be_read_is_none(left: Path, damage: str) -> None:
    (left / JOURNAL).write_text(damage)
    assert not half_done(left.parent)
