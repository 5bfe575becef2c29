"""Reports: whole or not at all, and never in the place of the model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ferrum.runtime.report_file import ReportError, check_report, new_file


def test_a_report_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text("old")
    with new_file(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


def test_one_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    def fail() -> None:
        with new_file(tmp_path / "r.json") as part:
            part.write_text("ha")
            raise OSError("disk full")

    (tmp_path / "r.json").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_it_never_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("source")
    os.link(tmp_path / "source", tmp_path / "r.json")
    with new_file(tmp_path / "r.json") as part:
        part.write_text("new")
    assert (tmp_path / "source").read_text() == "source"


def test_what_is_no_file_is_written_as_it_is() -> None:
    with new_file(Path("/dev/null")) as part:
        assert part == Path("/dev/null")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("how", ["itself", "hard link", "symlink"])
def test_a_file_of_the_model_is_refused(tmp_path: Path, how: str) -> None:
    model = tmp_path / "model.gguf"
    model.write_text("weights")
    target = model if how == "itself" else tmp_path / "r.json"
    if how != "itself":
        (os.link if how == "hard link" else os.symlink)(model, target)
    with pytest.raises(ReportError, match=r"^\[svg\] .* is a file of the model -> another one$"):
        check_report("svg", target, [tmp_path / "none", model])


@pytest.mark.parametrize("bad", ["", "nowhere/r.json"])
def test_no_place_to_write_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ReportError, match=r"^\[svg\] .* -> a file in an existing folder$"):
        check_report("svg", tmp_path / bad, [])
