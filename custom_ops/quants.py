"""The ggml types: the one table that code, tests and documents are derived from.

To add a type: a row here, its decode function in `decode/` (named `Decode<name>`), and its struct
and decoder in `native/quants.h` and `native/cpu/dequantize.cc`. The tests walk this table and
name what is missing.

A type whose blocks GPUs cannot load in vectors may have a second type, its layout in planes: the
same bytes, all first fields of a matrix's blocks, then all second ones, and so on, each row by row
and block by block. To add one: `fields` in the type's row, here and in `native/quants.h`, its name
in the lists of `native/cuda/` (kernels/formats.h, kernels/gemm_arguments.h, ops/gemv.cc) and in
kernels/gemm_planes.cu, and how its fields are unpacked, beside what unpacks its blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

PLANES_ID = 1000  # what the id of a layout in planes is above its type's


@dataclass(frozen=True)
class Quant:
    """How one ggml type lays out a row of values.

    A row is `columns / block` blocks of `bytes` bytes each; float types are blocks of length 1.
    `id` is the number that GGUF files and the ops' type attributes use. `fields` are the bytes of
    a block's parts, in their order, where there is a layout in planes.
    """

    name: str
    id: int
    block: int
    bytes: int
    fields: tuple[int, ...] = ()
    blocks: Quant | None = None  # of a layout in planes: the type whose blocks they hold

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row of `columns` values; ValueError unless they are whole blocks."""
        if columns % self.block:
            raise ValueError(
                f"row of {columns} values is not a multiple of {self.name}'s block of {self.block}"
            )
        return columns // self.block * self.bytes

    @property
    def planes(self) -> Quant | None:
        """The layout in planes of this type; None where there is none."""
        if not self.fields or self.blocks is not None:
            return None
        return replace(self, name=f"{self.name}_planes", id=PLANES_ID + self.id, blocks=self)

    def in_planes(self, rows: int, columns: int) -> bool:
        """Whether a matrix may lie in planes: each of them must be whole 16 bytes long.

        So every plane of every matrix of a stack is aligned as the first is.
        """
        count = rows * (columns // self.block)
        return bool(self.fields) and all(count * size % 16 == 0 for size in self.fields)

    @property
    def is_float(self) -> bool:
        """Whether values are stored as plain floats, so that products never go through int8."""
        return self.block == 1


class Table:
    """Quant types by name and by id, in the order of their ids.

    It holds and iterates over ggml's own, which files have; layouts of them in planes are found by
    name and id too.
    """

    def __init__(self, *rows: Quant) -> None:
        self._rows = rows
        self.planes = tuple(planes for row in rows if (planes := row.planes))
        self._by_name = {row.name: row for row in (*rows, *self.planes)}
        self._by_id = {row.id: row for row in (*rows, *self.planes)}

    def __iter__(self) -> Iterator[Quant]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def by_name(self, name: str) -> Quant:
        """The row of that name, as ggml spells it; KeyError with the known names."""
        if name not in self._by_name:
            raise KeyError(f"unknown ggml type {name!r}; known: {', '.join(self._by_name)}")
        return self._by_name[name]

    def by_id(self, type_id: int) -> Quant:
        """The row of that ggml id; KeyError with the known ids."""
        if type_id not in self._by_id:
            known = ", ".join(f"{row.id} ({row.name})" for row in self._by_id.values())
            raise KeyError(f"unknown ggml type id {type_id}; known: {known}")
        return self._by_id[type_id]

    def __contains__(self, type_id: object) -> bool:
        return any(row.id == type_id for row in self._rows)


QUANTS = Table(
    Quant("F32", id=0, block=1, bytes=4),
    Quant("F16", id=1, block=1, bytes=2),
    Quant("Q4_0", id=2, block=32, bytes=18),
    Quant("Q4_1", id=3, block=32, bytes=20),
    Quant("Q5_0", id=6, block=32, bytes=22),
    Quant("Q5_1", id=7, block=32, bytes=24),
    Quant("Q8_0", id=8, block=32, bytes=34, fields=(2, 32)),
    Quant("Q2_K", id=10, block=256, bytes=84),
    Quant("Q3_K", id=11, block=256, bytes=110),
    Quant("Q4_K", id=12, block=256, bytes=144),
    Quant("Q5_K", id=13, block=256, bytes=176),
    Quant("Q6_K", id=14, block=256, bytes=210, fields=(128, 64, 16, 2)),
    Quant("IQ2_XXS", id=16, block=256, bytes=66),
    Quant("IQ2_XS", id=17, block=256, bytes=74),
    Quant("IQ3_XXS", id=18, block=256, bytes=98),
    Quant("IQ1_S", id=19, block=256, bytes=50),
    Quant("IQ4_NL", id=20, block=32, bytes=18),
    Quant("IQ3_S", id=21, block=256, bytes=110),
    Quant("IQ2_S", id=22, block=256, bytes=82),
    Quant("IQ4_XS", id=23, block=256, bytes=136),
    Quant("IQ1_M", id=29, block=256, bytes=56),
    Quant("BF16", id=30, block=1, bytes=2),
    Quant("TQ1_0", id=34, block=256, bytes=54),
    Quant("TQ2_0", id=35, block=256, bytes=66),
    Quant("MXFP4", id=39, block=32, bytes=17, fields=(1, 16)),
    Quant("NVFP4", id=40, block=64, bytes=36),
)
