"""The library of made_up_engine.cc, which tests of ferrum-bench's --vs-library measure."""

from __future__ import annotations

import subprocess
from pathlib import Path


def made_up_engine(folder: Path) -> Path:
    """Compile it into a folder; returns the library."""
    library, source = folder / "made_up.so", Path(__file__).with_suffix(".cc")
    compile_to = ["c++", "-std=c++17", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*compile_to, str(source)], check=True)
    return library
