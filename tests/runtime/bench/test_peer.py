"""Another engine's library beside ferrum: what it is given, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_up_engine import made_up_engine

from ferrum.runtime.bench.cases import Case
from ferrum.runtime.bench.errors import BenchError
from ferrum.runtime.bench.llama import Piece
from ferrum.runtime.bench.peer import Peer, peer_name
from ferrum.runtime.bench.process import SideProcess
from ferrum.runtime.bench.sides import other_sides


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def peer(library: Path, sample: Path) -> Peer:
    opened = Peer(library, sample, repack=False)
    opened.open(sequences=2, length=8, threads=1)
    return opened


def test_a_step_s_tokens_come_with_their_places_and_logits_where_asked(peer: Peer) -> None:
    peer.decode([Piece(0, [3, 4], 0, True), Piece(1, [9], 0, False)])
    peer.decode([Piece(1, [20], 1, True), Piece(0, [5], 2, True)])
    assert [int(peer.logits(row).argmax()) for row in (0, 1)] == [21, 5]
    peer.decode([Piece(0, [6, 7], 3, True)])
    assert not peer.logits(0).any()
    assert np.flatnonzero(peer.logits(1)).tolist() == [7]


def test_a_trimmed_sequence_goes_on_where_it_was_cut(peer: Peer) -> None:
    peer.decode([Piece(0, [1, 2, 3], 0, True)])
    peer.trim(0, 1)
    peer.decode([Piece(0, [2], 1, True)])
    with pytest.raises(BenchError, match="cannot cut sequence 0 to 5 tokens"):
        peer.trim(0, 5)


def test_what_the_engine_refuses_is_said(peer: Peer, library: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"made_up\.so\] peer_decode returned 2"):
        peer.decode([Piece(0, [1], 3, True)])
    with pytest.raises(BenchError, match="no context for 1 x 4 tokens"):
        peer.open(sequences=1, length=4, threads=0)
    (tmp_path / "m.gguf").write_bytes(b"none")
    with pytest.raises(BenchError, match=r"m\.gguf\] .*made_up\.so refuses it"):
        Peer(library, tmp_path / "m.gguf", repack=False)


def test_what_is_no_such_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    other = tmp_path / "other.so"
    subprocess.run(
        ["c++", "-shared", "-fPIC", "-x", "c++", "-o", str(other), "-"], input=b"", check=True
    )
    for library, says in (
        (tmp_path / "none.so", "none.so"),
        (tmp_path / "text.so", "text.so"),
        (other, "peer_name"),
    ):
        with pytest.raises(BenchError, match=says) as raised:
            peer_name(library)
        assert "-> a library with the functions of ferrum.runtime.bench.peer" in str(raised.value)


@pytest.mark.parametrize("case", [Case("prefill", 600, 2, 0, 2), Case("decode", 4, 3, 520, 2)])
def test_a_side_repeats_a_case_longer_than_a_step(library: Path, sample: Path, case: Case) -> None:
    (_, side) = other_sides(sample, ["in-place"], [library])
    process = SideProcess(side.name, side.arguments)
    try:
        assert process.open(case)["cache_tokens"] == case.batch * case.length
        assert all(process.run() > 0 for _ in range(3))
    finally:
        process.end()


def test_every_engine_has_a_side_for_each_mode(library: Path, sample: Path) -> None:
    sides = other_sides(sample, ["in-place", "repack"], [library])
    assert [(side.name, side.copies) for side in sides] == [
        ("llama.cpp in place", False), ("llama.cpp repack", True),
        ("made up in place", False), ("made up repack", True),
    ]  # fmt: skip
    with pytest.raises(BenchError, match=r"made_up\.so is made up -> another engine"):
        other_sides(sample, ["in-place"], [library, library])
