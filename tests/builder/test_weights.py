"""The blocks come to lie beside the .onnx as asked, and the source file is never touched."""

from __future__ import annotations

import errno
import io
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder import weights
from ferrum.builder.build import BuildOptions, build
from ferrum.builder.check.export import Export
from ferrum.builder.check.run import CheckOptions, run_checks
from ferrum.builder.outputs import publish
from ferrum.builder.survey import survey
from ferrum.builder.weights import (
    MODES,
    Method,
    Mode,
    WeightsError,
    place_weights,
    plan_weights,
    reflink,
)

BLOCKS = os.urandom(100_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "m.gguf"
    path.parent.mkdir()
    path.write_bytes(BLOCKS)
    return path


@pytest.fixture
def elsewhere(source: Path) -> Iterator[Path]:
    """A folder on another file system than the source's."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == source.stat().st_dev:
        pytest.skip("no second file system: /dev/shm is missing or the temporary folder's own")
    folder = Path(tempfile.mkdtemp(dir=shm))
    yield folder
    shutil.rmtree(folder)


def put(sources: list[Path], folder: Path, mode: Mode = "auto") -> list[Method]:
    """Plan, place and publish, as a build does."""
    plan = plan_weights(sources, folder, mode)
    names = [placement.name for placement in plan if not placement.in_place]
    with publish(folder, names, inputs=sources) as staging:
        return place_weights(plan, staging, mode, progress=False)


def can_reflink(folder: Path) -> bool:
    (folder / "probe").write_bytes(b"x")
    return reflink(folder / "probe", folder / "clone")


@pytest.mark.parametrize("mode", ["auto", "reference", "link"])
def test_a_file_in_the_outputs_folder_is_referenced(mode: Mode, source: Path) -> None:
    assert put([source], source.parent, mode) == ["reference"]
    assert os.listdir(source.parent) == ["m.gguf"]


@pytest.mark.parametrize("mode", ["auto", "link"])
def test_on_the_same_file_system_a_hard_link_is_made(
    mode: Mode, source: Path, tmp_path: Path
) -> None:
    assert put([source], tmp_path / "out", mode) == ["link"]
    assert (tmp_path / "out" / "m.gguf").samefile(source)


@pytest.mark.parametrize("mode", ["auto", "reference", "link"])
def test_a_hard_link_that_is_there_already_is_used(
    mode: Mode, source: Path, tmp_path: Path
) -> None:
    put([source], tmp_path / "out")
    assert put([source], tmp_path / "out", mode) == ["reference"]


def test_copy_gives_an_independent_file(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert put([source], out, "copy") in (["copy"], ["reflink"])
    (out / "m.gguf").open("r+b").write(b"changed")
    assert source.read_bytes() == BLOCKS
    assert (out / "m.gguf").read_bytes() == b"changed" + BLOCKS[7:]


def test_on_another_file_system_auto_copies(source: Path, elsewhere: Path) -> None:
    assert put([source], elsewhere) == ["copy"]
    assert (elsewhere / "m.gguf").read_bytes() == BLOCKS
    assert os.listdir(elsewhere) == ["m.gguf"]


def test_on_another_file_system_a_link_is_refused(source: Path, elsewhere: Path) -> None:
    with pytest.raises(WeightsError, match=r"is on another file system -> --weights copy"):
        put([source], elsewhere, "link")
    assert os.listdir(elsewhere) == []


def test_a_file_system_that_refuses_links_gets_a_copy(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(weights.os, "link", refuse)
    assert put([source], tmp_path / "auto") in (["copy"], ["reflink"])
    with pytest.raises(WeightsError, match=r"Operation not permitted -> --weights copy"):
        put([source], tmp_path / "link", "link")


def test_reference_to_another_folder_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not lie in the output's folder .* -> --weights"):
        plan_weights([source], tmp_path / "out", "reference")


def test_copy_onto_itself_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="lies in the output's folder already"):
        plan_weights([source], source.parent, "copy")
    put([source], tmp_path / "out", "link")
    with pytest.raises(WeightsError, match="is a hard link of"):
        plan_weights([source], tmp_path / "out", "copy")


def test_an_unknown_mode_is_refused(source: Path) -> None:
    with pytest.raises(WeightsError, match=f"mode 'move' -> one of {', '.join(MODES)}"):
        plan_weights([source], source.parent, "move")  # type: ignore[arg-type]


def test_a_link_to_the_source_elsewhere_links_the_real_file(source: Path, tmp_path: Path) -> None:
    """As in a download cache, where a readable name leads to a file named by its hash."""
    alias = tmp_path / "cache" / "nice.gguf"
    alias.parent.mkdir()
    alias.symlink_to(source)
    assert put([alias], tmp_path / "out") == ["link"]
    target = tmp_path / "out" / "nice.gguf"
    assert not target.is_symlink()
    assert target.samefile(source)


def test_a_link_in_the_outputs_folder_is_not_referenced(source: Path, tmp_path: Path) -> None:
    """ONNX Runtime refuses a symbolic link that leads out of the folder."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "nice.gguf").symlink_to(source)
    with pytest.raises(WeightsError, match="does not lie in the output's folder"):
        plan_weights([out / "nice.gguf"], out, "reference")
    assert put([out / "nice.gguf"], out) == ["link"]
    assert sorted(os.listdir(out)) == ["m.gguf", "nice.gguf"]
    assert not (out / "m.gguf").is_symlink()


def test_a_link_that_would_have_to_be_replaced_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "m.gguf").symlink_to(source)
    with pytest.raises(WeightsError, match="symbolic link that leads out of the output's folder"):
        plan_weights([out / "m.gguf"], out)


def test_a_link_within_the_folder_references_the_real_file(source: Path) -> None:
    alias = source.parent / "latest.gguf"
    alias.symlink_to(source.name)
    (placement,) = plan_weights([alias], source.parent)
    assert placement.in_place
    assert placement.name == "m.gguf"


@pytest.mark.parametrize("output", ["snapshot", "blobs", "elsewhere"])
def test_shards_that_are_links_to_files_of_other_names_stay_shards(
    output: str, tmp_path: Path
) -> None:
    """As in a download cache: snapshot/m-00001-of-00002.gguf leads to blobs/<hash>."""
    for name in ("snapshot", "blobs"):
        (tmp_path / name).mkdir()
    links = []
    for number, path in enumerate(write_synthetic(tmp_path / "m.gguf", SyntheticSpec(shards=2))):
        path.rename(tmp_path / "blobs" / f"hash{number}")
        links.append(tmp_path / "snapshot" / path.name)
        links[-1].symlink_to(Path("..", "blobs", f"hash{number}"))
    out = tmp_path / output / "m.onnx"
    for force in (False, True):
        build(links[0], out, BuildOptions(force=force, progress=False))
    export = Export(out)
    assert len(export.beside.files) == 2
    assert all(link.is_symlink() for link in links)
    wrong = [o for o in run_checks(export, CheckOptions()) if o.finding.status == "fail"]
    assert wrong == []
    assert survey(out).config.layers == 2


def test_shards_of_which_one_is_a_link_within_the_folder_stay_shards(tmp_path: Path) -> None:
    first, second = write_synthetic(tmp_path / "m.gguf", SyntheticSpec(shards=2))
    second.rename(tmp_path / "hash")
    second.symlink_to("hash")
    build(first, tmp_path / "m.onnx", BuildOptions(progress=False))
    names = [record["file"] for record in Export(tmp_path / "m.onnx").records]
    assert names == [f"ferrum-{first.name}", f"ferrum-{second.name}"]
    assert survey(tmp_path / "m.onnx").config.layers == 2


def test_shards_are_placed_together(source: Path, tmp_path: Path) -> None:
    second = source.with_name("m2.gguf")
    second.write_bytes(b"more")
    assert put([source, second], tmp_path / "out") == ["link", "link"]
    assert sorted(os.listdir(tmp_path / "out")) == ["m.gguf", "m2.gguf"]


def test_two_sources_of_one_name_are_refused(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "m.gguf"
    other.parent.mkdir()
    other.write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"^\[m\.gguf\] two source files have this name"):
        plan_weights([source, other], tmp_path / "out")


def test_a_copy_without_space_is_refused_before_it_starts(source: Path, elsewhere: Path) -> None:
    with source.open("r+b") as file:
        file.truncate(1 << 43)  # sparse
    with pytest.raises(WeightsError, match=r"a copy needs 8796\.09 GB, .* GB are free"):
        put([source], elsewhere)
    assert os.listdir(elsewhere) == []


def test_a_file_that_shrinks_while_it_is_copied_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_CHUNK", 1000)

    def cut(_: int) -> None:
        os.truncate(source, 5000)

    with pytest.raises(WeightsError, match="changed while it was copied: 5000 bytes -> 100000"):
        weights._copy(source, tmp_path / "copy.gguf", cut)


def test_a_copy_is_whole_where_writes_take_a_part(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reluctant(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[:700])

    monkeypatch.setattr(
        Path, "open", lambda path, mode, buffering=0: Reluctant(path, mode.replace("b", ""))
    )
    weights._copy(source, tmp_path / "copy.gguf", lambda _: None)
    monkeypatch.undo()
    assert (tmp_path / "copy.gguf").read_bytes() == BLOCKS


def test_a_reflink_has_the_same_content_or_leaves_nothing(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "clone.gguf"
    if reflink(source, target):
        assert target.read_bytes() == BLOCKS
        assert not target.samefile(source)
    else:
        assert not target.exists()


def test_a_reflink_comes_before_a_copy_where_the_file_system_has_them(
    source: Path, tmp_path: Path
) -> None:
    wanted = "reflink" if can_reflink(tmp_path) else "copy"
    assert put([source], tmp_path / "out", "copy") == [wanted]


def test_a_copy_draws_a_bar_on_a_terminal_only(source: Path, elsewhere: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ferrum.builder.weights import *\n"
        "source, folder = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "place_weights(plan_weights([source], folder), folder)"
    )
    main, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", script, source, elsewhere], stderr=terminal, check=True,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    assert b"copying weights" in os.read(main, 10_000)
    (elsewhere / "m.gguf").unlink()
    piped = subprocess.run(
        [sys.executable, "-c", script, source, elsewhere], capture_output=True, check=True
    )
    assert piped.stderr + piped.stdout == b""
