"""Super-blocks of 256 plain integer codes to float32, in standard ONNX ops.

A super-block has one half-precision scale d (and for some a minimum scale dmin); its runs of 16 or
32 values have small integer scales of their own: y = d * scale * code (- dmin * minimum).
"""

from __future__ import annotations

import numpy as np
from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.decode.bits import (
    FERRUM,
    Bits,
    Blocks,
    Half,
    InRows,
    Scaled,
    Signed,
    Spread,
    Unpack,
    constant,
)

THREES = constant([[[1], [3], [9], [27], [81]]], np.float32)
FOUR_THREES = constant([[[1], [3], [9], [27]]], np.float32)


@script(FERRUM, default_opset=op)
def SixBitPairs(scales):
    """uint8[N, 12] to the eight 6-bit scales and eight 6-bit minimums of Q4_K and Q5_K.

    Bytes 0-3 and 4-7 hold the first four scales and minimums in their low 6 bits; bytes 8-11 hold
    the low nibbles of the other four of each, whose top 2 bits are the top bits of bytes 0-7.
    """
    first, second, third = op.Split(scales, num_outputs=3, axis=1)
    four = op.CastLike(op.Constant(value_int=4), scales)
    scale_tops = op.BitShift(Bits(first, shift=6, mask=3), four, direction="LEFT")
    minimum_tops = op.BitShift(Bits(second, shift=6, mask=3), four, direction="LEFT")
    scale = op.Concat(
        Bits(first, shift=0, mask=63),
        op.BitwiseOr(Bits(third, shift=0, mask=15), scale_tops),
        axis=1,
    )
    minimum = op.Concat(
        Bits(second, shift=0, mask=63),
        op.BitwiseOr(Bits(third, shift=4, mask=15), minimum_tops),
        axis=1,
    )
    return op.Cast(scale, to=1), op.Cast(minimum, to=1)


@script(FERRUM, default_opset=op)
def DecodeQ2_K(rows):
    """16 bytes of scale and minimum nibbles; 64 bytes of 2-bit codes; d, dmin."""
    b = Blocks(rows, bytes=84)
    scale = op.Cast(Bits(b[:, 0:16], shift=0, mask=15), to=1) * Half(b[:, 80:82])
    minimum = op.Cast(Bits(b[:, 0:16], shift=4, mask=15), to=1) * Half(b[:, 82:84])
    code = op.Cast(Unpack(b[:, 16:80], width=32, bits=2), to=1)
    return InRows(Scaled(code, scale) - Spread(minimum, code), rows)


@script(FERRUM, default_opset=op)
def DecodeQ3_K(rows):
    """32 bytes of third bits; 64 bytes of 2-bit codes; 16 scales of 6 bits in 12 bytes; d."""
    b = Blocks(rows, bytes=110)
    high = op.Cast(Unpack(b[:, 0:32], width=32, bits=1), to=1)
    low = op.Cast(Unpack(b[:, 32:96], width=32, bits=2), to=1)
    scale_low = op.Cast(Unpack(b[:, 96:104], width=8, bits=4), to=1)
    scale_high = op.Cast(Unpack(b[:, 104:108], width=4, bits=2), to=1)
    scale = (scale_low + scale_high * 16.0 - 32.0) * Half(b[:, 108:110])
    return InRows(Scaled(low + high * 4.0 - 4.0, scale), rows)


@script(FERRUM, default_opset=op)
def DecodeQ4_K(rows):
    """d, dmin; 12 bytes of 6-bit scales and minimums; 128 bytes of nibbles."""
    b = Blocks(rows, bytes=144)
    scale, minimum = SixBitPairs(b[:, 4:16])
    code = op.Cast(Unpack(b[:, 16:144], width=32, bits=4), to=1)
    scaled = Scaled(code, Half(b[:, 0:2]) * scale)
    return InRows(scaled - Spread(Half(b[:, 2:4]) * minimum, code), rows)


@script(FERRUM, default_opset=op)
def DecodeQ5_K(rows):
    """d, dmin; 12 bytes of 6-bit scales and minimums; 32 bytes of fifth bits; 128 of nibbles."""
    b = Blocks(rows, bytes=176)
    scale, minimum = SixBitPairs(b[:, 4:16])
    high = op.Cast(Unpack(b[:, 16:48], width=32, bits=1), to=1)
    code = op.Cast(Unpack(b[:, 48:176], width=32, bits=4), to=1) + high * 16.0
    scaled = Scaled(code, Half(b[:, 0:2]) * scale)
    return InRows(scaled - Spread(Half(b[:, 2:4]) * minimum, code), rows)


@script(FERRUM, default_opset=op)
def DecodeQ6_K(rows):
    """128 bytes of low nibbles; 64 of upper bit pairs; 16 signed byte scales; d; offset 32."""
    b = Blocks(rows, bytes=210)
    low = op.Cast(Unpack(b[:, 0:128], width=64, bits=4), to=1)
    high = op.Cast(Unpack(b[:, 128:192], width=32, bits=2), to=1)
    scale = Half(b[:, 208:210]) * Signed(b[:, 192:208])
    return InRows(Scaled(low + high * 16.0 - 32.0, scale), rows)


@script(FERRUM, default_opset=op)
def Trits(bytes_, threes):
    """float[N, m]: base-3 digits, most significant first, of bytes that hold digits / 3^5 * 256.

    Multiplying by a power of three, modulo 256, moves a digit to the top; times 3, over 256,
    reads it.
    """
    count = op.Shape(bytes_, start=0, end=1)
    moved = op.Mod(op.Unsqueeze(op.Cast(bytes_, to=1), 1) * threes, 256.0, fmod=1)
    digits = op.Floor(moved * 3.0 / 256.0)
    return op.Reshape(digits, op.Concat(count, op.Constant(value_ints=[-1]), axis=0))


@script(FERRUM, default_opset=op)
def DecodeTQ1_0(rows):
    """48 bytes of five trits each (in runs of 32 and 16 bytes), 4 of four; d; offset 1."""
    b = Blocks(rows, bytes=54)
    code = op.Concat(
        Trits(b[:, 0:32], op.Constant(value=THREES)),
        Trits(b[:, 32:48], op.Constant(value=THREES)),
        Trits(b[:, 48:52], op.Constant(value=FOUR_THREES)),
        axis=1,
    )
    return InRows(Half(b[:, 52:54]) * (code - 1.0), rows)


@script(FERRUM, default_opset=op)
def DecodeTQ2_0(rows):
    """64 bytes of 2-bit codes; d; offset 1."""
    b = Blocks(rows, bytes=66)
    code = op.Cast(Unpack(b[:, 0:64], width=32, bits=2), to=1)
    return InRows(Half(b[:, 64:66]) * (code - 1.0), rows)
