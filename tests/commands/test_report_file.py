"""A report never costs a model, and a failed one not even the report before it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ferrum.commands.report_file import ReportError, check_reports, new_report, write_report


def refused(path: Path, *kept: Path, says: str) -> None:
    with pytest.raises(ReportError, match=says) as caught:
        check_reports([path], kept)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["itself", "hard link", "symlink", "other spelling"])
def test_a_file_of_the_model_is_no_target(how: str, tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_text("weights")
    target = tmp_path / "report"
    if how == "itself":
        target = model
    elif how == "hard link":
        os.link(model, target)
    elif how == "symlink":
        target.symlink_to(model)
    else:
        target = tmp_path / ".." / tmp_path.name / "m.gguf"
    refused(target, tmp_path / "other", model, says="itself -> another file for the report")
    assert model.read_text() == "weights"


def test_the_name_of_a_file_that_is_missing_is_no_target(tmp_path: Path) -> None:
    refused(tmp_path / "ferrum.json", tmp_path / "ferrum.json", says="itself")


def test_two_reports_need_two_files(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="itself"):
        check_reports([tmp_path / "a", tmp_path / "a"], [])


def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(tmp_path, says="is a folder -> a file")
    refused(tmp_path / "none" / "r.json", says="no folder .*none -> a file in an existing folder")
    refused(tmp_path / "file" / "r.json", says="no folder|cannot be written")
    refused(tmp_path / ("x" * 300), says="cannot be written: File name too long")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_sound_target_stays_as_it_is_until_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    check_reports([tmp_path / "old", tmp_path / "new"], [tmp_path / "m.gguf"])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old": "old"}


def test_a_report_replaces_the_file_and_not_what_is_linked_to_it(tmp_path: Path) -> None:
    old, link, alias = tmp_path / "old", tmp_path / "link", tmp_path / "alias"
    old.write_text("old")
    old.chmod(0o640)
    os.link(old, link)
    alias.symlink_to(old)
    write_report(alias, b"new")
    assert (old.read_text(), link.read_text()) == ("new", "old")
    assert alias.is_symlink()
    assert old.stat().st_mode & 0o777 == 0o640
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_that_nothing_can_replace_is_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As containers have files: each a mount of its own."""
    file = tmp_path / "r.json"
    file.write_text("old")

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", busy)
        write_report(file, b"new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"r.json": "new"}
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) == file)  # its folder is not ours
    check_reports([file], [])
    write_report(file, b"newer")
    assert file.read_text() == "newer"


def test_a_device_takes_any_number_of_reports() -> None:
    check_reports([Path("/dev/null"), Path("/dev/null")], [])


def test_a_device_is_written_into() -> None:
    check_reports([Path("/dev/null")], [])
    write_report(Path("/dev/null"), b"new")
    assert not Path("/dev/null").is_file()


def test_a_disk_that_is_full_leaves_the_old_report(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("old")
    script = """
        import sys
        from pathlib import Path
        from ferrum.commands.report_file import ReportError, write_report
        try:
            write_report(Path(sys.argv[1]), bytes(1 << 20))
        except ReportError as error:
            sys.exit(str(error))
    """

    def limit() -> None:  # in place of a full disk: no file may grow beyond 64 kB
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    call = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "r.json"]
    done = subprocess.run(call, preexec_fn=limit, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "cannot be written: File too large" in done.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"r.json": "old"}


def test_work_that_fails_while_it_writes_leaves_the_old_report(tmp_path: Path) -> None:
    def fail() -> None:
        with new_report(tmp_path / "r.npz") as file:
            file.write(b"ha")
            raise ValueError("no number")

    (tmp_path / "r.npz").write_text("old")
    with pytest.raises(ValueError, match="no number"):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"r.npz": "old"}
