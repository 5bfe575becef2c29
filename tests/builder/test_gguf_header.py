"""Every value type of the format comes out as the Python value it stands for."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_writer import ARRAY, header, string
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrum.builder.gguf_header import quoted, read_header

SCALARS = {
    "u1": 255, "i1": -128, "u2": 65535, "i2": -32768, "u4": (1 << 32) - 1, "i4": -(1 << 31),
    "u8": (1 << 64) - 1, "i8": -(1 << 63), "f4": 1.5, "f8": 1e300,
}  # fmt: skip


def read(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    path.write_bytes(header(metadata, []))
    return read_header(path).metadata


@pytest.mark.parametrize("kind", SCALARS)
def test_numbers_keep_their_value(kind: str, tmp_path: Path) -> None:
    extreme = np.array(SCALARS[kind], kind)
    metadata = read(tmp_path / "m.gguf", {"one": extreme[()], "many": np.array([extreme, 0], kind)})
    assert metadata["one"] == SCALARS[kind]
    assert type(metadata["one"]) in (int, float)
    assert metadata["many"].dtype == np.dtype("<" + kind)
    assert metadata["many"].tolist() == [SCALARS[kind], 0]


def test_booleans_and_their_arrays(tmp_path: Path) -> None:
    metadata = read(tmp_path / "m.gguf", {"t": True, "f": False, "many": np.array([True, False])})
    assert metadata["t"] is True
    assert metadata["f"] is False
    assert metadata["many"].tolist() == [True, False]


def test_nested_arrays_become_lists(tmp_path: Path) -> None:
    inner = struct.pack("<IQ2i", 5, 2, 7, -7)
    path = tmp_path / "m.gguf"
    path.write_bytes(
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k")
        + struct.pack("<IIQ", ARRAY, ARRAY, 2) + inner + inner
    )  # fmt: skip
    assert [row.tolist() for row in read_header(path).metadata["k"]] == [[7, -7], [7, -7]]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=20),
        st.one_of(
            st.text(max_size=40),
            st.booleans(),
            st.integers(0, (1 << 32) - 1),
            st.floats(width=32, allow_nan=False),
            st.lists(st.text(max_size=9), max_size=20),
        ),
        max_size=8,
    ).filter(lambda metadata: "general.alignment" not in metadata)
)
def test_metadata_round_trips(tmp_path: Path, metadata: dict[str, Any]) -> None:
    assert read(tmp_path / "m.gguf", metadata) == metadata


def test_names_are_safe_to_print() -> None:
    assert quoted("a\nb\x1b[31m") == r"'a\nb\x1b[31m'"
    assert len(quoted("x" * 1000)) == 82
