"""Instructions that the kernels take, counted by callgrind: a figure that no neighbour disturbs.

    python tests/tools/count_instructions.py [--types Q4_K,Q6_K] [--isas avx2] [--columns 1,8,64]

Each kernel is called through the library's testing entry points, with some work and with twice as
much; a figure is the difference, so that neither Python nor what prepares a call counts. Prints a
table in Markdown. Needs valgrind, which does not know AVX-512.

valgrind finds functions in a library with symbols only, which an installed one lacks: without
FERRUM_LIBRARY, which names another, one is built in build/counted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from native_products import PRODUCTS
from random_blocks import random_blocks

from ferrum.custom_ops.quants import QUANTS

ROWS, K = 128, 2048
HEAD_DIM, POSITIONS = 128, 128  # a tile of attention
EVEN = PRODUCTS["even"]  # of activations that come from a norm
F16 = 1  # ggml id
PER = 256  # operations that a figure is for
EACH_CALL = "ferrum::choose_kernels*"  # what every entry point begins with


@dataclass(frozen=True)
class Case:
    """A kernel on one instruction set."""

    kernel: str
    isa: str
    entry: str
    calls: tuple[tuple[Any, ...], tuple[Any, ...]]  # arguments after the instruction set
    operations: int  # that the second call has beyond the first


def cases(types: list[str], isas: list[str], columns: list[int]) -> Iterator[Case]:
    """All that is counted, a kernel's instruction sets next to one another."""
    random = np.random.default_rng(0)
    for name in types:
        for count in columns:
            x = random.standard_normal((count, K), np.float32)
            calls = (_product(name, ROWS, x), _product(name, 2 * ROWS, x))
            label = f"{name} product, {count} column{'s' if count > 1 else ''}"
            for isa in isas:
                yield Case(label, isa, "ferrum_test_matmul", calls, ROWS * K * count)
    calls = (_quantization(K), _quantization(2 * K))
    for isa in isas:
        yield Case("quantization of activations", isa, "ferrum_test_quantize", calls, K)
    for queries in (8, 64):
        calls = (_attention(queries, POSITIONS), _attention(queries, 2 * POSITIONS))
        operations = 2 * queries * POSITIONS * HEAD_DIM
        for isa in isas:
            label = f"attention tile, {queries} queries"
            yield Case(label, isa, "ferrum_test_attention", calls, operations)


def _product(name: str, rows: int, x: Any) -> tuple[Any, ...]:
    quant = QUANTS.by_name(name)
    weights = random_blocks(name, rows * K // quant.block, 0.05, 0)
    out = np.empty((len(x), rows), np.float32)
    return (ctypes.c_int(quant.id), EVEN, weights, weights.size, rows, K, x, len(x), out)


def _quantization(k: int) -> tuple[Any, ...]:
    x = np.random.default_rng(1).standard_normal(k, np.float32)
    sums = np.empty(k // 16, np.int32)
    type_id = ctypes.c_int(QUANTS.by_name("Q4_K").id)
    return (type_id, EVEN, x, k, np.empty(k, np.int8), np.empty(k // 32, np.float32), sums)


def _attention(queries: int, positions: int) -> tuple[Any, ...]:
    random = np.random.default_rng(2)
    q = random.standard_normal((queries, HEAD_DIM), np.float32) / np.float32(HEAD_DIM**0.5)
    seen = np.full(queries, positions, np.int32)
    keys, values = random.standard_normal((2, positions, HEAD_DIM), np.float32).astype(np.float16)
    most, sums = np.empty((2, queries), np.float32)
    return (
        ctypes.c_int(F16), ctypes.c_int(1), q, queries, seen, keys, values, positions, HEAD_DIM,
        most, sums, np.empty_like(q),
    )  # fmt: skip


def library_file() -> str:
    """The library that is counted, built here where none is named."""
    if named := os.environ.get("FERRUM_LIBRARY"):
        return str(Path(named).resolve())
    root = Path(__file__).parents[2]
    source, build = root / "custom_ops", root / "build" / "counted"
    cmake = [sys.executable, "-m", "cmake"]
    make = [*cmake, "-S", source, "-B", build, f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (make, [*cmake, "--build", build, "--parallel", "2"]):
        subprocess.run(command, check=True, stdout=sys.stderr)
    return str(build / "libferrum_ops.so")


def run(wanted: list[Case]) -> None:
    """Make every call once; callgrind watches."""
    library = ctypes.CDLL(library_file())
    for case in wanted:
        for call in case.calls:
            status = library[case.entry](case.isa.encode(), *map(_converted, call))
            if status:
                raise SystemExit(f"{case.kernel}, {case.isa}: {case.entry} returned {status}")


def _converted(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_int64(value) if isinstance(value, int) else value


def counted(library: str, arguments: list[str]) -> list[int]:
    """Instructions of each call of a run of this script under callgrind, in order."""
    environment = {**os.environ, "FERRUM_LIBRARY": library, "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--quiet", "--compress-strings=no",
                   "--compress-pos=no", f"--dump-before={EACH_CALL}",
                   f"--callgrind-out-file={folder}/calls",
                   sys.executable, __file__, *arguments, "--inside"]  # fmt: skip
        subprocess.run(command, check=True, env=environment)
        dumps = sorted(Path(folder).glob("calls.*"), key=lambda path: int(path.suffix[1:]))
        # The first is of Python's start; the last call's is written as Python ends.
        return [own(dump, library) for dump in (*dumps[1:], Path(folder, "calls"))]


def own(dump: Path, library: str) -> int:
    """A dump's instructions in functions of the library, without those of what they called."""
    total, inside, called = 0, False, False
    for line in dump.read_text().splitlines():
        if line.startswith("ob="):
            inside = line == f"ob={library}"
        elif line.startswith("calls="):
            called = True  # the next line is what that call took altogether
        elif line[:1].isdigit():
            total += int(line.split()[1]) if inside and not called else 0
            called = False
    return total


def table(wanted: list[Case], counts: list[int], isas: list[str]) -> str:
    """Instructions per 256 operations, a row per kernel."""
    rows: dict[str, list[str]] = {}
    for i, case in enumerate(wanted):
        beyond = counts[2 * i + 1] - counts[2 * i]
        rows.setdefault(case.kernel, []).append(f"{PER * beyond / case.operations:,.1f}")
    lines = [["instructions", *isas], ["---", *["---:"] * len(isas)]]
    lines += [[kernel, *cells] for kernel, cells in rows.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = lambda text: text.split(",")  # noqa: E731
    types = ["Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_XS"]
    parser.add_argument("--types", type=names, default=types)
    parser.add_argument("--isas", type=names, default=["avx2", "generic"])
    parser.add_argument(
        "--columns", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 64]
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    wanted = list(cases(args.types, args.isas, args.columns))
    if args.inside:
        run(wanted)
        return
    library = library_file()
    counts = counted(library, sys.argv[1:])
    if len(counts) != 2 * len(wanted):
        raise SystemExit(
            f"[{library}] callgrind counted {len(counts)} calls -> {2 * len(wanted)}, of a library "
            "with symbols"
        )
    print(table(wanted, counts, args.isas))


if __name__ == "__main__":
    main()
