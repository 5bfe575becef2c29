"""Pieces of a model's real weights, read straight from the file, and activations for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from ferrum.builder.check.element_types import rounded
from ferrum.builder.check.export import Export, NotChecked, Reference
from ferrum.custom_ops.planes import strips, to_planes
from ferrum.custom_ops.quants import QUANTS

_ROWS, _EXPERTS, _TOKENS = 64, 2, 6
_GROUP = 32


class Sampler:
    """Draws rows and experts; never more of a matrix than it returns is read.

    Activations are drawn as numbers of the type `dtype`, though float32 holds them.
    """

    def __init__(self, export: Export, rng: np.random.Generator, dtype: str = "float32") -> None:
        self.export, self.rng, self._dtype = export, rng, dtype

    def rows(self, name: str) -> tuple[npt.NDArray[np.uint8], str]:
        """uint8[rows, bytes] of a matrix [rows, bytes], and which they are."""
        reference = self._reference(name, rank=2)
        count = reference.dims[0]
        chosen = np.sort(self.rng.choice(count, min(_ROWS, count), replace=False))
        rows = self._rows(reference, chosen)
        return rows, f"{len(chosen)} rows of {name} from {chosen[0]}"

    def experts(self, names: list[str]) -> tuple[list[npt.NDArray[np.uint8]], str]:
        """Per stack uint8[experts, rows, bytes], the same experts of each, and which they are."""
        references = [self._reference(name, rank=3) for name in names]
        count = min(reference.dims[0] for reference in references)
        chosen = np.sort(self.rng.choice(count, min(_EXPERTS, count), replace=False))
        stacks = []
        for reference in references:
            _, rows, size = reference.dims
            parts = [self._bytes(reference, int(e) * rows * size, rows * size) for e in chosen]
            stacks.append(np.stack(parts).reshape(len(chosen), rows, size))
        return stacks, f"experts {', '.join(map(str, chosen))} of {names[0].rsplit('.', 2)[0]}"

    def _rows(self, reference: Reference, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Those rows of a matrix; of one in planes, as planes of a matrix of their own."""
        count, size = reference.dims
        relaid = self.export.relaid
        if relaid is None or reference.name not in relaid.sources:
            return np.stack([self._bytes(reference, int(row) * size, size) for row in chosen])
        quant = QUANTS.by_id(relaid.sources[reference.name].type)
        in_row = size // quant.bytes
        rows = [
            np.concatenate(
                [
                    self._bytes(reference, offset, length).reshape(in_row, -1)
                    for offset, length in strips(quant, count * in_row, int(row) * in_row, in_row)
                ],
                axis=1,
            ).ravel()
            for row in chosen
        ]
        return to_planes(quant, np.stack(rows))

    def vector(self, name: str) -> npt.NDArray[np.float32]:
        """A float32 vector, from its file or from the graph."""
        tensor = self.export.initializers.get(name)
        if tensor is None:
            raise NotChecked(f"{name} is not a tensor of the graph")
        if not tensor.external_data:
            return np.asarray(numpy_helper.to_array(tensor), np.float32)
        reference = self.export.references[name]
        return self._bytes(reference, 0, reference.length).view(np.float32)

    def activations(self, columns: int) -> npt.NDArray[np.float32]:
        """float32[tokens, columns]: half normal, half on an int8 grid.

        On the grid every group of 32 is whole multiples of 2^-6 up to 127 of them, so int8
        activations are exact there, whatever the number that share a scale, and what a fast kernel
        gets wrong cannot hide in rounding.
        """
        return np.concatenate([self.int8_grid(columns), self.normal(_TOKENS // 2, columns)])

    def normal(self, *shape: int) -> npt.NDArray[np.float32]:
        """float32 of that shape."""
        return rounded(self.rng.standard_normal(shape).astype(np.float32), self._dtype)

    def int8_grid(self, columns: int) -> npt.NDArray[np.float32]:
        """float32[tokens, columns], all on the grid, which every type holds."""
        codes = self.rng.integers(-127, 128, (_TOKENS // 2, columns))
        codes[:, ::_GROUP] = 127
        return (codes * 2.0**-6).astype(np.float32)

    def _reference(self, name: str, rank: int) -> Reference:
        reference = self.export.references.get(name)
        if reference is None or len(reference.dims) != rank:
            raise NotChecked(f"{name} is no external tensor of rank {rank}")
        return reference

    def _bytes(self, reference: Reference, start: int, count: int) -> npt.NDArray[np.uint8]:
        path = self.export.folder / reference.location
        found: npt.NDArray[Any] = np.fromfile(
            path, np.uint8, count, offset=reference.offset + start
        )
        if len(found) != count:
            raise NotChecked(f"{reference.name}: {reference.location} ends inside it")
        return found
