"""F32, F16 and BF16 rows to float32, in standard ONNX ops."""

from __future__ import annotations

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.decode.bits import (
    BFLOAT_SCALES,
    FERRUM,
    FLOAT_SCALES,
    ZERO,
    Bits,
    Blocks,
    Half,
    InRows,
    LongWords,
    Words,
)


@script(FERRUM, default_opset=op)
def DecodeF32(rows):
    """IEEE single precision: 1 sign bit, 8 of exponent, 23 of mantissa."""
    word = LongWords(Blocks(rows, bytes=4))
    exponent = op.Cast(Bits(word, shift=23, mask=255), to=6)
    mantissa = op.Cast(Bits(word, shift=0, mask=8388607), to=1)
    hidden = op.Cast(op.Greater(exponent, op.Constant(value=ZERO)), to=1)
    sign = op.Cast(Bits(word, shift=31, mask=1), to=1)
    scale = op.Gather(op.Constant(value=FLOAT_SCALES), exponent)
    return InRows((mantissa + hidden * 8388608.0) * scale * (1.0 - 2.0 * sign), rows)


@script(FERRUM, default_opset=op)
def DecodeF16(rows):
    """IEEE half precision."""
    return InRows(Half(Blocks(rows, bytes=2)), rows)


@script(FERRUM, default_opset=op)
def DecodeBF16(rows):
    """The upper half of a single: 1 sign bit, 8 of exponent, 7 of mantissa."""
    word = Words(Blocks(rows, bytes=2))
    exponent = op.Cast(Bits(word, shift=7, mask=255), to=6)
    mantissa = op.Cast(Bits(word, shift=0, mask=127), to=1)
    hidden = op.Cast(op.Greater(exponent, op.Constant(value=ZERO)), to=1)
    sign = op.Cast(Bits(word, shift=15, mask=1), to=1)
    scale = op.Gather(op.Constant(value=BFLOAT_SCALES), exponent)
    return InRows((mantissa + hidden * 128.0) * scale * (1.0 - 2.0 * sign), rows)
