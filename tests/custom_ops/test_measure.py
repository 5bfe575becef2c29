"""The machine's limits are measured: plausible in order, on every instruction set, never judged."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ferrum.custom_ops.library import describe
from ferrum.custom_ops.measure import MeasureError, cache_line_bytes, product_rate, read_rate

ROOT = Path(__file__).parents[2]
BRIEF = 0.002


@pytest.mark.parametrize("isa", describe()["isas"])
@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_products_of_every_instruction_set_have_a_rate(isa: str, kind: str) -> None:
    rate = product_rate(kind, isa, threads=1, seconds=BRIEF)  # type: ignore[arg-type]
    assert rate.per_second > 0
    assert rate.instruction


@pytest.mark.parametrize("isa", describe()["isas"])
@pytest.mark.parametrize("threads", [1, 3])
def test_reading_has_a_rate_for_any_size_and_number_of_threads(isa: str, threads: int) -> None:
    for size in (512 * threads, 512 * threads + 511, 3_000_001):
        assert read_rate(cache_line_bytes(size), threads=threads, seconds=BRIEF, isa=isa) > 0


def test_reading_takes_mapped_files(sample: Path) -> None:
    assert read_rate(np.memmap(sample, np.uint8, "r"), threads=2, seconds=BRIEF) > 0


def test_an_instruction_set_that_is_not_here_is_refused() -> None:
    missing = "avx2" if describe()["architecture"] != "x86_64" else "neon"
    for name in (missing, "mmx"):
        with pytest.raises(MeasureError, match=f"does not have {name}"):
            product_rate("int8", name, threads=1, seconds=BRIEF)
        with pytest.raises(MeasureError, match=f"does not have {name}"):
            read_rate(cache_line_bytes(512), threads=1, seconds=BRIEF, isa=name)


def test_data_that_the_loops_cannot_read_is_refused() -> None:
    data = cache_line_bytes(4096)
    with pytest.raises(MeasureError, match="cache line"):
        read_rate(data[1:], threads=1, seconds=BRIEF)
    with pytest.raises(MeasureError, match="contiguous"):
        read_rate(data[::2], threads=1, seconds=BRIEF)
    for threads in (0, 9):
        with pytest.raises(MeasureError, match="512 or more each"):
            read_rate(data, threads=threads, seconds=BRIEF)


def test_the_loops_objects_lend_the_baseline_nothing() -> None:
    """See native/cpu/test_isa_objects.py: these are compiled for newer instruction sets too."""
    if shutil.which("nm") is None:
        pytest.skip("nm (binutils) is not here")
    objects = [
        path
        for path in (ROOT / "build").glob("py3*/CMakeFiles/ferrum_ops.dir/native/bench/*.o")
        if path.name != "measure.cc.o"
    ]
    if not objects:
        pytest.skip(f"no build tree under {ROOT / 'build'}: the library was installed from a wheel")
    for path in objects:
        listing = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True)
        kinds = [
            line.split(maxsplit=2)[1] for line in listing.stdout.splitlines() if line[0] != " "
        ]
        assert not set(kinds) & set("WVuwv"), path
        assert sum(kind.isupper() for kind in kinds) == 1, path
