"""Random damage to a GGUF: it opens or is refused in one line, and never costs memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import pytest
from gguf_writer import ARRAY, STRING, string
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import SyntheticSpec, write_synthetic

from ferrum.builder.gguf import GGUF, GGUFError
from ferrum.builder.tokenizer import read_tokenizer

# A header of a few thousand bytes; counts and lengths sit in its first part and at its end.
SPEC = SyntheticSpec(layers=1, vocab=300, experts=2, experts_used=1, hidden=256)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """The bytes of a small model, and where its tensor data starts."""
    (path,) = write_synthetic(tmp_path_factory.mktemp("fuzz") / "tiny.gguf", SPEC)
    start = min(tensor.offset for tensor in GGUF.open(path).tensors.values())
    return path.read_bytes(), start


def opens_or_is_refused(path: Path) -> None:
    message = ""
    tracemalloc.start()
    try:
        read_tokenizer(GGUF.open(path))
    except GGUFError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "\n" not in message
    assert len(message) < 600
    assert peak < 16 << 20


FUZZ = settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(data=st.data())
def test_changed_bytes(tiny: tuple[bytes, int], tmp_path: Path, data: st.DataObject) -> None:
    raw, start = bytearray(tiny[0]), tiny[1]
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, start - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    opens_or_is_refused(path)


@FUZZ
@given(data=st.data())
def test_changed_numbers(tiny: tuple[bytes, int], tmp_path: Path, data: st.DataObject) -> None:
    """Whole 64-bit fields, which single bytes rarely turn into extreme values."""
    raw, start = bytearray(tiny[0]), tiny[1]
    at = data.draw(st.one_of(st.integers(8, 200), st.integers(start - 1500, start - 9)))
    extreme = st.sampled_from([0, 1, 255, 1 << 31, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1])
    struct.pack_into("<Q", raw, at, data.draw(extreme))
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    opens_or_is_refused(path)


@FUZZ
@given(data=st.data())
def test_removed_and_inserted_bytes(
    tiny: tuple[bytes, int], tmp_path: Path, data: st.DataObject
) -> None:
    raw, start = tiny
    at = data.draw(st.integers(0, start))
    gone = data.draw(st.integers(0, 40))
    new = data.draw(st.binary(max_size=40))
    path = tmp_path / "model.gguf"
    path.write_bytes(raw[:at] + new + raw[at + gone :])
    opens_or_is_refused(path)


@FUZZ
@given(data=st.binary(max_size=400))
def test_any_bytes_after_the_magic(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + data)
    opens_or_is_refused(path)


LENGTHS = {
    "string": struct.pack("<IQ", STRING, 5 << 30),
    "bytes": struct.pack("<IIQ", ARRAY, 0, 5 << 30),
    "strings": struct.pack("<IIQ", ARRAY, STRING, 600 << 20),
    "arrays": struct.pack("<IIQ", ARRAY, ARRAY, 400 << 20),
}


@pytest.mark.parametrize("kind", LENGTHS)
def test_a_corrupt_length_in_a_large_file_costs_no_memory(kind: str, tmp_path: Path) -> None:
    # Sparse, so that every length fits the bytes that are left, as in a real model of many GB.
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + LENGTHS[kind])
        file.truncate(6 << 30)
    script = """
        import sys
        from pathlib import Path
        from ferrum.builder.gguf import GGUF, GGUFError
        def peak():  # of its own: getrusage begins with what the parent had
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        before = peak()
        try:
            GGUF.open(sys.argv[1])
        except GGUFError as error:
            print(error)
            grown = peak() - before
            sys.exit(0 if grown < 64 << 10 else f"grew by {grown} KiB")
        sys.exit("opened")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[large.gguf] ")
