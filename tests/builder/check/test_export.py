"""What is no export is refused before it is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ferrum.builder.check.export import Export, ExportError


def test_a_gguf_is_told_from_a_graph(sample: Path) -> None:
    with pytest.raises(ExportError, match=r"a GGUF -> the \.onnx that ferrum-build made of it"):
        Export(sample)


def test_a_file_larger_than_any_graph_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(1 << 40)  # a hole: reading it would take all memory
    with pytest.raises(ExportError, match=r"1,099,511,627,776 bytes -> at most 2,147,483,647"):
        Export(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(ExportError, match=r"m\.onnx\] not a regular file"):
        Export(path)
