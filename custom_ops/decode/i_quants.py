"""Super-blocks of 256 codes looked up in tables of good vectors to float32, in standard ONNX ops.

A code names a row of 4 or 8 magnitudes; signs are stored beside it, or, for the 2.06-bit types, as
the number of a sign pattern of even parity. The tables come from the gguf package.
"""

from __future__ import annotations

import numpy as np
import onnx
from gguf import quants as gguf_quants
from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.decode.bits import (
    FERRUM,
    Bits,
    Blocks,
    Half,
    HalfOfWord,
    InRows,
    LongWords,
    Scaled,
    Signs,
    Spread,
    Unpack,
    Words,
    constant,
)
from ferrum.custom_ops.decode.small_blocks import IQ4_NL_VALUES


def _grid(name: str) -> onnx.TensorProto:
    """float[entries, 4 or 8]: the table of that type."""
    kind = getattr(gguf_quants, name)
    kind.init_grid()
    return constant(kind.grid.reshape(kind.grid_shape), np.float32)


def _sign_patterns() -> np.ndarray:
    """uint8[128]: seven sign bits and an eighth that makes the number of set bits even."""
    low = np.arange(128)
    parity = sum(low >> bit & 1 for bit in range(7)) & 1
    return low | parity << 7


SIGN_PATTERNS = constant(_sign_patterns(), np.uint8)
IQ2_XXS_GRID = _grid("IQ2_XXS")
IQ2_XS_GRID = _grid("IQ2_XS")
IQ2_S_GRID = _grid("IQ2_S")
IQ3_XXS_GRID = _grid("IQ3_XXS")
IQ3_S_GRID = _grid("IQ3_S")
IQ1_GRID = _grid("IQ1_S")
FOUR_SEVENS = constant([[[0, 7, 14, 21]]], np.uint32)
FOUR_THREES = constant([[[0, 3, 6, 9]]], np.uint32)
NIBBLE_SHIFTS = constant([[12, 8, 4, 0]], np.uint32)
TOP_NIBBLE = constant(0xF000, np.uint32)
EVEN_SHIFTS = constant([[0, 2, 4, 6, 8, 10, 12, 14]], np.uint32)


@script(FERRUM, default_opset=op)
def Looked(grid, code, like):
    """float[N, 256]: the table's rows that the codes name, laid end to end."""
    count = op.Shape(like, start=0, end=1)
    values = op.Gather(grid, op.Cast(code, to=7))
    return op.Reshape(values, op.Concat(count, op.Constant(value_ints=[-1]), axis=0))


@script(FERRUM, default_opset=op)
def WordParts(words, shifts, mask: int):
    """uint32[N, n * m]: each of words[N, n] shifted right by each of shifts[1, 1, m], masked."""
    count = op.Shape(words, start=0, end=1)
    moved = op.BitShift(op.Unsqueeze(words, 2), shifts, direction="RIGHT")
    parts = Bits(moved, shift=0, mask=mask)
    return op.Reshape(parts, op.Concat(count, op.Constant(value_ints=[-1]), axis=0))


@script(FERRUM, default_opset=op)
def PatternSigns(numbers):
    """float[N, 8 n]: the signs that n numbers of sign patterns stand for."""
    return Signs(op.Gather(op.Constant(value=SIGN_PATTERNS), op.Cast(numbers, to=7)))


@script(FERRUM, default_opset=op)
def DecodeIQ2_XXS(rows):
    """d; per 32 values four grid bytes, then 28 bits of sign numbers and 4 of scale."""
    b = Blocks(rows, bytes=66)
    pairs = op.Reshape(b[:, 2:66], op.Constant(value_ints=[0, 8, 8]))
    code = op.Reshape(pairs[:, :, 0:4], op.Constant(value_ints=[0, 32]))
    word = LongWords(op.Reshape(pairs[:, :, 4:8], op.Constant(value_ints=[0, 32])))
    scale = op.Cast(Bits(word, shift=28, mask=15), to=1)
    signs = PatternSigns(WordParts(word, op.Constant(value=FOUR_SEVENS), mask=127))
    grid = Looked(op.Constant(value=IQ2_XXS_GRID), code, b)
    scales = Half(b[:, 0:2]) * (scale + 0.5) * 0.25
    return InRows(Scaled(grid, scales) * signs, rows)


@script(FERRUM, default_opset=op)
def DecodeIQ2_XS(rows):
    """d; 32 words of 9 grid bits and 7 of sign number; 8 bytes of scale nibbles."""
    b = Blocks(rows, bytes=74)
    word = Words(b[:, 2:66])
    signs = PatternSigns(Bits(word, shift=9, mask=127))
    grid = Looked(op.Constant(value=IQ2_XS_GRID), Bits(word, shift=0, mask=511), b)
    scale = op.Cast(Unpack(b[:, 66:74], width=1, bits=4), to=1)
    scales = Half(b[:, 0:2]) * (scale + 0.5) * 0.25
    return InRows(Scaled(grid, scales) * signs, rows)


@script(FERRUM, default_opset=op)
def DecodeIQ2_S(rows):
    """d; 32 low grid bytes; 32 sign bytes; 8 bytes of upper grid bits; 8 of scale nibbles."""
    b = Blocks(rows, bytes=82)
    high = op.Cast(Unpack(b[:, 66:74], width=1, bits=2), to=6)
    code = op.Cast(b[:, 2:34], to=6) + high * 256
    grid = Looked(op.Constant(value=IQ2_S_GRID), code, b)
    scale = op.Cast(Unpack(b[:, 74:82], width=1, bits=4), to=1)
    scales = Half(b[:, 0:2]) * (scale + 0.5) * 0.25
    return InRows(Scaled(grid, scales) * Signs(b[:, 34:66]), rows)


@script(FERRUM, default_opset=op)
def DecodeIQ3_XXS(rows):
    """d; 64 grid bytes of four values; eight words of 28 sign number bits and 4 of scale."""
    b = Blocks(rows, bytes=98)
    word = LongWords(b[:, 66:98])
    scale = op.Cast(Bits(word, shift=28, mask=15), to=1)
    signs = PatternSigns(WordParts(word, op.Constant(value=FOUR_SEVENS), mask=127))
    grid = Looked(op.Constant(value=IQ3_XXS_GRID), b[:, 2:66], b)
    scales = Half(b[:, 0:2]) * (scale + 0.5) * 0.5
    return InRows(Scaled(grid, scales) * signs, rows)


@script(FERRUM, default_opset=op)
def DecodeIQ3_S(rows):
    """d; 64 low grid bytes; 8 bytes of ninth grid bits; 32 sign bytes; 4 of scale nibbles."""
    b = Blocks(rows, bytes=110)
    high = op.Cast(Unpack(b[:, 66:74], width=1, bits=1), to=6)
    code = op.Cast(b[:, 2:66], to=6) + high * 256
    grid = Looked(op.Constant(value=IQ3_S_GRID), code, b)
    scale = op.Cast(Unpack(b[:, 106:110], width=1, bits=4), to=1)
    scales = Half(b[:, 0:2]) * (scale * 2.0 + 1.0)
    return InRows(Scaled(grid, scales) * Signs(b[:, 74:106]), rows)


@script(FERRUM, default_opset=op)
def DecodeIQ1_S(rows):
    """d; 32 low grid bytes; eight words of 12 upper grid bits, 3 of scale and one of shift sign."""
    b = Blocks(rows, bytes=50)
    word = Words(b[:, 34:50])
    high = op.Cast(WordParts(word, op.Constant(value=FOUR_THREES), mask=7), to=6)
    grid = Looked(op.Constant(value=IQ1_GRID), op.Cast(b[:, 2:34], to=6) + high * 256, b)
    scale = op.Cast(Bits(word, shift=12, mask=7), to=1) * 2.0 + 1.0
    delta = 0.125 - 0.25 * op.Cast(Bits(word, shift=15, mask=1), to=1)
    shifted = grid + Spread(delta, grid)
    return InRows(Scaled(shifted, Half(b[:, 0:2]) * scale), rows)


@script(FERRUM, default_opset=op)
def DecodeIQ1_M(rows):
    """32 low grid bytes; 16 bytes of 3 upper grid bits and a shift sign per 8 values; four words
    of four 3-bit scales, whose top nibbles are the half-precision scale d."""
    b = Blocks(rows, bytes=56)
    word = Words(b[:, 48:56])
    tops = op.BitShift(
        op.BitwiseAnd(word, op.Constant(value=TOP_NIBBLE)),
        op.Constant(value=NIBBLE_SHIFTS),
        direction="RIGHT",
    )
    d = HalfOfWord(
        op.BitwiseOr(
            op.BitwiseOr(tops[:, 0:1], tops[:, 1:2]), op.BitwiseOr(tops[:, 2:3], tops[:, 3:4])
        )
    )
    scale = WordParts(word, op.Constant(value=FOUR_THREES), mask=7)
    nibble = Unpack(b[:, 32:48], width=1, bits=4)
    high = op.Cast(Bits(nibble, shift=0, mask=7), to=6)
    grid = Looked(op.Constant(value=IQ1_GRID), op.Cast(b[:, 0:32], to=6) + high * 256, b)
    delta = 0.125 - 0.25 * op.Cast(Bits(nibble, shift=3, mask=1), to=1)
    shifted = grid + Spread(delta, grid)
    return InRows(Scaled(shifted, d * (op.Cast(scale, to=1) * 2.0 + 1.0)), rows)


@script(FERRUM, default_opset=op)
def DecodeIQ4_XS(rows):
    """d; eight upper scale bit pairs; 4 bytes of scale nibbles, offset 32; 128 of nibbles."""
    b = Blocks(rows, bytes=136)
    pairs = op.BitShift(Words(b[:, 2:4]), op.Constant(value=EVEN_SHIFTS), direction="RIGHT")
    high = op.Cast(Bits(pairs, shift=0, mask=3), to=1)
    low = op.Cast(Unpack(b[:, 4:8], width=1, bits=4), to=1)
    scales = Half(b[:, 0:2]) * (low + high * 16.0 - 32.0)
    code = op.Cast(Unpack(b[:, 8:136], width=16, bits=4), to=6)
    values = op.Gather(op.Constant(value=IQ4_NL_VALUES), code)
    return InRows(Scaled(values, scales), rows)
