"""The CUDA kernels of a build as a table: threads of a block, registers, shared memory, spills.

    python custom_ops/native/cuda/kernel_table.py [BUILD] [--check]

BUILD is the folder that CMake built in (default: build/py3-none-*); builds print the table at their
end. The compiler's logs are read, so no GPU is needed. --check fails where a kernel spills
registers to memory or has an atomic operation (a captured graph may run again), or where weights
are not loaded in vectors though their layout allows it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Types whose codes lie at multiples of 8 or 16 bytes, and how wide their loads must be.
VECTORS = {
    "Q4_K": "v4",
    "Q5_K": "v4",
    "Q6_K_planes": "v4",
    "Q8_0_planes": "v4",
    "MXFP4_planes": "v2",
}


@dataclass(frozen=True)
class Usage:
    """What ptxas says of a kernel on one architecture."""

    kernel: str
    architecture: int
    registers: int
    shared: int  # bytes that are always there; more may be asked for at launch
    spilled: int  # bytes stored and loaded


_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)\w?'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_ATOMIC = re.compile(r"^\s*(?:@!?%p\d+ )?((?:atom|red)\.\S+)", re.MULTILINE)
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def usages(log: str) -> Iterator[Usage]:
    """The kernels of one `ptxas -v` log, in its order."""
    kernel, architecture, spilled = "", 0, 0
    for line in log.splitlines():
        if found := _ENTRY.search(line):
            kernel, architecture = found[1], int(found[2])
        elif found := _SPILLS.search(line):
            spilled = int(found[1]) + int(found[2])
        elif found := _USED.search(line):
            yield Usage(kernel, architecture, int(found[1]), int(found[2] or 0), spilled)


def read(build: Path) -> list[Usage]:
    """All kernels of a build on all its architectures."""
    logs = sorted((build / "cuda").glob("*.cubin.log"))
    if not logs:
        sys.exit(f"{build}/cuda: no *.cubin.log -> a folder that CMake built CUDA kernels in")
    return [usage for log in logs for usage in usages(log.read_text())]


_THREADS = re.compile(r"\.visible \.entry (\w+)\([^{]*?\.maxntid (\d+)")


def threads(build: Path) -> dict[str, int]:
    """Of a block of each kernel, as its source says."""
    texts = [path.read_text() for path in (build / "cuda").glob("*.ptx")]
    return {name: int(count) for text in texts for name, count in _THREADS.findall(text)}


def table(found: list[Usage], blocks: dict[str, int]) -> str:
    """Markdown: a row per kernel, with the threads of a block and registers by architecture."""
    architectures = sorted({usage.architecture for usage in found})
    kernels: dict[str, dict[int, Usage]] = {}
    for usage in found:
        kernels.setdefault(usage.kernel, {})[usage.architecture] = usage
    lines = [
        "| kernel | threads | "
        + " | ".join(f"sm_{a}" for a in architectures)
        + " | shared | spilled |",
        "| --- |" + " ---: |" * (len(architectures) + 3),
    ]
    for kernel, row in sorted(kernels.items()):
        registers = " | ".join(str(row[a].registers) if a in row else "-" for a in architectures)
        shared = max(usage.shared for usage in row.values())
        spilled = max(usage.spilled for usage in row.values())
        lines.append(f"| {kernel} | {blocks[kernel]} | {registers} | {shared:,} | {spilled:,} |")
    return "\n".join(lines)


def faults(found: list[Usage], build: Path) -> list[str]:
    """What --check complains of."""
    said = [
        f"{usage.kernel} on sm_{usage.architecture} spills {usage.spilled} bytes"
        for usage in found
        if usage.spilled
    ]
    for unit in sorted((build / "cuda").glob("*.ptx")):
        for name, entry in entries(unit.read_text()):
            said += [f"{name} has an atomic operation, {what}" for what in _ATOMIC.findall(entry)]
            for kind, vector in VECTORS.items():
                # Of integers: activations are floats, and loaded so in every kernel.
                load = rf"ld\.global\S*\.{vector}\.[ub]32"
                if "gemv" in unit.name and kind in name and not re.search(load, entry):
                    said.append(f"{name} has no {vector} load of weights")
    return said


def entries(ptx: str) -> Iterator[tuple[str, str]]:
    """The kernels of a unit: name and text."""
    for entry in re.split(r"(?=\.visible \.entry )", ptx):
        if named := re.match(r"\.visible \.entry (\w+)", entry):
            yield named[1], entry


def main() -> None:
    """Prints the table; with --check, complaints and exit status 1 where there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    build = arguments.build or next((ROOT / "build").glob("py3-none-*"), ROOT / "build")
    found = read(build)
    print(table(found, threads(build)))
    if arguments.check and (said := faults(found, build)):
        sys.exit("\n".join(said))


if __name__ == "__main__":
    main()
