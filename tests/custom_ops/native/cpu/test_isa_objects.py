"""Objects compiled for a newer instruction set lend the baseline nothing.

A weak symbol (a shared inline function, a std:: template) of such an object may be the copy that
the linker keeps for everybody, and then baseline code runs instructions that the machine lacks.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


def isa_objects() -> list[Path]:
    """The objects of the package's own build; sanitizers add symbols to theirs."""
    found = (ROOT / "build").glob("*/CMakeFiles/ferrum_ops.dir/native/cpu/isa/*.o")
    return sorted(path for path in found if "sanitized" not in path.parts)


def symbols(path: Path) -> list[list[str]]:
    listing = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True)
    return [line.split(maxsplit=2) for line in listing.stdout.splitlines() if line[0] != " "]


def test_isa_objects_define_no_weak_symbols() -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm (binutils) is not here")
    objects = isa_objects()
    if not objects:
        pytest.skip(f"no build tree under {ROOT / 'build'}: the library was installed from a wheel")
    assert {path.name for path in objects} >= {"generic.cc.o"}
    for path in objects:
        weak = [name for _, kind, name in symbols(path) if kind in "WVuwv"]
        assert weak == [], path


def test_isa_objects_export_their_table_alone() -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm (binutils) is not here")
    for path in isa_objects():
        exported = [name for _, kind, name in symbols(path) if kind.isupper()]
        assert len(exported) == 1, (path, exported)
