"""Writes the lookup tables of the i-quants and FP4 types, as gguf has them, into a C++ include.

    python tables.py OUT

Run by CMake. The numbers stay in the package that publishes them instead of in this repository;
where the package keeps a table as text, its own decoder (`init_grid`) expands it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from gguf import quants

# C++ name, the package's class, factor: IQ1's thirds of -1, 0, 1 become eighths, so that its
# delta of an eighth is an integer too.
GRIDS = [
    ("kGridIQ2_XXS", quants.IQ2_XXS, 1),
    ("kGridIQ2_XS", quants.IQ2_XS, 1),
    ("kGridIQ2_S", quants.IQ2_S, 1),
    ("kGridIQ3_XXS", quants.IQ3_XXS, 1),
    ("kGridIQ3_S", quants.IQ3_S, 1),
    ("kGridIQ1", quants.IQ1_S, 8),
]

# Device code defines the macro first, so that the tables lie where kernels can read them.
HEAD = """// Written by native/tables.py from the gguf package.

#ifndef FERRUM_TABLE
#define FERRUM_TABLE constexpr
#endif
"""


def rows_of(values: np.ndarray) -> str:
    """C++ initializer of an int8 table [entries, width]."""
    lines = ("{" + ", ".join(str(int(v)) for v in row) + "}," for row in values)
    return "\n".join("    " + line for line in lines)


def grid(name: str, owner: type, factor: int) -> str:
    """C++ definition of one grid: `entries` rows of 4 or 8 values."""
    owner.init_grid()  # type: ignore[attr-defined]
    values = np.asarray(owner.grid).reshape(owner.grid_shape) * factor  # type: ignore[attr-defined]
    if values.min() < -128 or values.max() > 127:
        raise ValueError(f"{name}: grid value outside int8")
    entries, width = values.shape
    return f"FERRUM_TABLE int8_t {name}[{entries}][{width}] = {{\n{rows_of(values)}\n}};\n"


def vector(name: str, ctype: str, values: tuple[int, ...] | bytes | list[str]) -> str:
    """C++ definition of one flat table."""
    return f"FERRUM_TABLE {ctype} {name}[{len(values)}] = {{{', '.join(map(str, values))}}};\n"


def scales_nvfp4() -> list[str]:
    """Every byte that NVFP4 has for a scale, as an exact C++ float literal."""
    scales = quants.NVFP4.ue4m3_to_fp32(np.arange(256, dtype=np.uint8))
    return [f"{float(scale).hex()}f" for scale in scales]


def main(argv: list[str]) -> None:
    """Writes the include to the path given as the only argument."""
    if len(argv) != 2:
        raise SystemExit("usage: python tables.py OUT")
    parts = [HEAD]
    parts += [grid(*row) for row in GRIDS]
    parts.append(vector("kSignsOf7Bits", "uint8_t", quants.IQ2_XXS.ksigns))
    parts.append(vector("kValuesIQ4", "int8_t", quants.IQ4_NL.kvalues))
    parts.append(vector("kValuesFP4", "int8_t", quants.MXFP4.kvalues))
    parts.append(vector("kScalesNVFP4", "float", scales_nvfp4()))
    Path(argv[1]).write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv)
