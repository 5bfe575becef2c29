"""The outputs of a build appear whole or not at all, whatever happens to it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ferrum.builder.outputs import OutputError, publish, recover
from ferrum.commands.journal import half_done

NAMES = ["weights.bin", "tokenizer.json", "model.onnx"]


def contents(folder: Path) -> dict[str, str]:
    """Name -> text of everything in `folder`, hidden folders included."""
    return {
        entry.name: "(folder)" if entry.is_dir() else entry.read_text()
        for entry in folder.iterdir()
    }


def build(
    folder: Path,
    text: str,
    *,
    names: Sequence[str] = NAMES,
    obsolete: Sequence[str] = (),
    inputs: Sequence[Path] = (),
    force: bool = False,
    written: Sequence[str] | None = None,
    then: Callable[[], None] = lambda: None,
) -> None:
    with publish(folder, names, obsolete=obsolete, inputs=inputs, force=force) as staging:
        for name in names if written is None else written:
            (staging / name).write_text(text)
        then()


def all_hold(text: str) -> dict[str, str]:
    return dict.fromkeys(NAMES, text)


def fail_on_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the renames into place, the last."""
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == "model.onnx" and self.parent.name == "new":
            raise OSError("disk on fire")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)


def test_outputs_appear_together_and_nothing_else_remains(tmp_path: Path) -> None:
    with publish(tmp_path, NAMES) as staging:
        for name in NAMES:
            (staging / name).write_text("new")
        assert not set(NAMES) & set(contents(tmp_path))
    assert contents(tmp_path) == all_hold("new")


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"^\[a\] two files of the export have this name -> "),
        publish(tmp_path / "out", ["a", "b", "a"], force=True),
    ):
        pytest.fail("the block ran")
    assert contents(tmp_path) == {}


def test_the_folder_is_made_and_taken_away_again_on_failure(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    with pytest.raises(RuntimeError), publish(deep, NAMES):
        raise RuntimeError
    assert contents(tmp_path) == {}
    build(deep, "new")
    assert contents(deep) == all_hold("new")


def test_existing_outputs_are_named_and_kept_without_force(tmp_path: Path) -> None:
    build(tmp_path, "old")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(OutputError, match=r"already there: tokenizer\.json, model\.onnx; pass --f"):
        build(tmp_path, "new")
    assert contents(tmp_path) == {"tokenizer.json": "old", "model.onnx": "old"}


def test_force_replaces_all(tmp_path: Path) -> None:
    build(tmp_path, "old")
    build(tmp_path, "new", force=True)
    assert contents(tmp_path) == all_hold("new")


def test_what_a_new_build_lacks_goes_with_the_old_one(tmp_path: Path) -> None:
    build(tmp_path, "old")
    build(tmp_path, "new", names=NAMES[1:], obsolete=["weights.bin", "never.bin"], force=True)
    assert contents(tmp_path) == dict.fromkeys(NAMES[1:], "new")


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_a_new_build_lacks_stays_where_the_build_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(*arguments: object, **options: object) -> None:
        raise OSError("no hard links")

    build(tmp_path, "old")
    fail_on_the_graph(monkeypatch)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OSError, match="disk on fire"):
        build(tmp_path, "new", names=NAMES[1:], obsolete=["weights.bin"], force=True)
    assert contents(tmp_path) == all_hold("old")


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_build_keeps_the_old_outputs(failure: type[BaseException], tmp_path: Path) -> None:
    def fail() -> None:
        raise failure

    build(tmp_path, "old")
    with pytest.raises(failure):
        build(tmp_path, "new", force=True, then=fail)
    assert contents(tmp_path) == all_hold("old")


def test_an_output_that_was_not_written_publishes_none(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"not as announced: tokenizer\.json"):
        build(tmp_path, "new", written=["model.onnx", "weights.bin"])
    assert contents(tmp_path) == {}


def test_a_rename_that_fails_puts_the_old_outputs_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, "old")
    (tmp_path / "weights.bin").unlink()
    fail_on_the_graph(monkeypatch)
    with pytest.raises(OSError, match="disk on fire"):
        build(tmp_path, "new", force=True)
    assert contents(tmp_path) == {"tokenizer.json": "old", "model.onnx": "old"}


def test_a_target_that_comes_up_during_the_build_is_not_overwritten(tmp_path: Path) -> None:
    def interfere() -> None:
        (tmp_path / "model.onnx").write_text("someone's")

    with pytest.raises(OutputError, match=r"already there: model\.onnx; another build wrote here"):
        build(tmp_path, "new", then=interfere)
    assert contents(tmp_path) == {"model.onnx": "someone's"}


def test_the_slower_of_two_builds_is_told_of_the_other(tmp_path: Path) -> None:
    """A folder with a copy of the GGUF, which the other build has replaced by a hard link."""
    source, out = tmp_path / "source.gguf", tmp_path / "out"
    source.write_text("blocks")

    def link() -> None:
        (out / "weights.bin").unlink()
        os.link(source, out / "weights.bin")

    build(out, "blocks", names=["weights.bin"])
    with pytest.raises(OutputError, match=r"is the input itself; another build wrote here"):
        build(out, "blocks", names=["weights.bin"], inputs=[source], force=True, then=link)
    assert (out / "weights.bin").samefile(source)


@pytest.mark.parametrize("how", ["itself", "hard link", "symlink"])
def test_an_input_is_never_replaced(how: str, tmp_path: Path) -> None:
    source = tmp_path / ("model.onnx" if how == "itself" else "source.gguf")
    source.write_text("input")
    if how == "hard link":
        os.link(source, tmp_path / "model.onnx")
    elif how == "symlink":
        os.symlink(source, tmp_path / "model.onnx")
    with (
        pytest.raises(OutputError, match="is the input itself"),
        publish(tmp_path, NAMES, inputs=[source], force=True),
    ):
        pytest.fail("the block ran")
    assert source.read_text() == "input"


def test_a_folder_in_an_outputs_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        build(tmp_path, "new", force=True)


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be made"):
        build(tmp_path / "file", "new")


def test_two_builds_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    with publish(tmp_path, ["a"]) as first:
        (first / "a").write_text("a")
        with publish(tmp_path, ["b"]) as second:
            (second / "b").write_text("b")
    assert contents(tmp_path) == {"a": "a", "b": "b"}


def test_a_hard_link_is_published_as_the_same_file(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_text("blocks")
    out = tmp_path / "out"
    with publish(out, ["weights.bin"], inputs=[source]) as staging:
        os.link(source, staging / "weights.bin")
    assert (out / "weights.bin").samefile(source)


BUILDER = """
    import sys, time
    from pathlib import Path
    from ferrum.builder.outputs import publish
    folder, names, pause = Path(sys.argv[1]), sys.argv[2].split(), float(sys.argv[3])
    print("ready", flush=True)
    round = 0
    while True:
        round += 1
        with publish(folder, names, force=True) as staging:
            for name in names:
                (staging / name).write_text(f"round {round}" * 1000)
            time.sleep(pause)
"""


def start_builder(folder: Path, pause: float) -> subprocess.Popen[str]:
    """A process that replaces the outputs over and over, each round with its own content."""
    command = [sys.executable, "-c", textwrap.dedent(BUILDER), folder, " ".join(NAMES), str(pause)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_build_killed_at_any_moment_leaves_whole_outputs(tmp_path: Path) -> None:
    rng = random.Random(0)
    build(tmp_path, "old")
    hits = 0
    for _ in range(40):
        process = start_builder(tmp_path, 0)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.wait()
        texts = {(tmp_path / name).read_text() for name in NAMES}
        for text in texts:
            assert text == "old" or len(set(text.split("round")[1:])) == 1
        assert len(texts) == 1 or half_done(tmp_path)
        left = set(contents(tmp_path)) - set(NAMES)
        assert all(name.startswith(".ferrum-") for name in left)
        hits += bool(left)
        recover(tmp_path)
        assert not half_done(tmp_path)
        after = contents(tmp_path)
        assert set(after) == set(NAMES)
        assert len(set(after.values())) == 1, "files of different builds"
    assert hits, "no kill hit a build: the test proves nothing"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    process = start_builder(tmp_path, 60)
    while not list(tmp_path.glob(".ferrum-*/new/model.onnx")):
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(timeout=60)
    assert process.returncode != 0
    assert contents(tmp_path) == {}


def test_signals_at_any_moment_leave_whole_outputs(tmp_path: Path) -> None:
    rng = random.Random(1)
    build(tmp_path, "old")
    for _ in range(30):
        process = start_builder(tmp_path, 0)
        time.sleep(rng.uniform(0, 0.03))
        process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
        process.wait(timeout=60)
        after = contents(tmp_path)
        assert set(after) == set(NAMES)
        assert len(set(after.values())) == 1


def test_a_build_that_still_runs_is_not_cleared_away(tmp_path: Path) -> None:
    process = start_builder(tmp_path, 60)
    while not list(tmp_path.glob(".ferrum-*/new/model.onnx")):
        time.sleep(0.01)
    try:
        recover(tmp_path)
        assert list(tmp_path.glob(".ferrum-*/new/model.onnx"))
    finally:
        process.kill()
        process.wait()
    recover(tmp_path)
    assert contents(tmp_path) == {}


def test_what_a_killed_build_has_left_is_cleared_though_its_number_is_another_process_s(
    tmp_path: Path,
) -> None:
    process = start_builder(tmp_path, 60)
    while not list(tmp_path.glob(".ferrum-*/new/model.onnx")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    (left,) = tmp_path.glob(".ferrum-*")
    left.rename(tmp_path / f".ferrum-{os.getppid()}-00000000")
    recover(tmp_path)
    assert contents(tmp_path) == {}


def test_a_build_that_has_only_begun_is_not_cleared_away(tmp_path: Path) -> None:
    begun = tmp_path / f".ferrum-{os.getppid()}-00000000"  # of a process that runs
    begun.mkdir()
    recover(tmp_path)
    assert begun.is_dir()


def test_a_link_that_looks_like_a_builds_folder_is_not_followed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "out"
    (elsewhere / "new").mkdir(parents=True)
    folder.mkdir()
    (folder / f".ferrum-{process.pid}-00000000").symlink_to(elsewhere)
    recover(folder)
    assert (elsewhere / "new").is_dir()
    assert [file.name for file in elsewhere.iterdir()] == ["new"]


@pytest.mark.parametrize("number", ["9" * 20, "0"])
def test_numbers_that_are_no_process_s_are_no_trouble(tmp_path: Path, number: str) -> None:
    (tmp_path / f".ferrum-{number}-aaaaaaaa").mkdir()
    recover(tmp_path)


def test_recovery_spares_what_was_changed_since(tmp_path: Path) -> None:
    """A half-done commit is undone, but not over a file that someone has put there meanwhile."""
    script = """
        import os, signal, sys
        from pathlib import Path
        from ferrum.builder.outputs import publish
        replace = Path.replace
        def die_before_the_last(self, target):
            if self.name == "model.onnx":
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(self, target)
        Path.replace = die_before_the_last
        names = sys.argv[2].split()
        with publish(Path(sys.argv[1]), names, force=True) as staging:
            for name in names:
                (staging / name).write_text("new")
    """
    build(tmp_path, "old")
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path, " ".join(NAMES)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert (tmp_path / "tokenizer.json").read_text() == "new"
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "weights.bin").write_text("someone's")
    recover(tmp_path)
    assert contents(tmp_path) == {**all_hold("old"), "weights.bin": "someone's"}
