"""Objects compiled for a newer instruction set lend the baseline nothing.

A weak symbol (a shared inline function, a std:: template) of such an object may be the copy that
the linker keeps for everybody, and then baseline code runs instructions that the machine lacks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
NM = os.environ.get("NM", "nm")
needs_nm = pytest.mark.skipif(shutil.which(NM) is None, reason=f"{NM} (binutils) is not here")


def isa_objects() -> list[Path]:
    """The objects of the build that FERRUM_LIBRARY names, else of the package's own; sanitizers
    add symbols to theirs."""
    named = os.environ.get("FERRUM_LIBRARY")
    builds = [Path(named).parent] if named else (ROOT / "build").glob("*")
    folder = "CMakeFiles/ferrum_ops.dir/native/cpu/isa"
    found = [path for build in builds for path in (build / folder).glob("*.o")]
    return sorted(path for path in found if "build/sanitized" not in path.as_posix())


def symbols(path: Path) -> list[list[str]]:
    listing = subprocess.run([NM, "-C", str(path)], capture_output=True, text=True, check=True)
    return [line.split(maxsplit=2) for line in listing.stdout.splitlines() if line[0] != " "]


@needs_nm
def test_isa_objects_define_no_weak_symbols() -> None:
    objects = isa_objects()
    if not objects:
        pytest.skip("no objects: the library was installed from a wheel, or has sanitizers")
    assert {path.name for path in objects} >= {"generic.cc.o"}
    for path in objects:
        weak = [name for _, kind, name in symbols(path) if kind in "WVuwv"]
        assert weak == [], path


@needs_nm
def test_isa_objects_export_their_table_alone() -> None:
    for path in isa_objects():
        exported = [name for _, kind, name in symbols(path) if kind.isupper()]
        assert len(exported) == 1, (path, exported)
