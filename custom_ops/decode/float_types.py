"""F32, F16 and BF16 rows to float32, in standard ONNX ops."""

from __future__ import annotations

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.decode.bits import (
    BFLOAT_SCALES,
    FERRUM,
    FLOAT_SCALES,
    BinaryFloat,
    Blocks,
    Half,
    InRows,
    LongWords,
    Words,
)


@script(FERRUM, default_opset=op)
def DecodeF32(rows):
    """IEEE single precision: 1 sign bit, 8 of exponent, 23 of mantissa."""
    values = BinaryFloat(
        LongWords(Blocks(rows, bytes=4)),
        op.Constant(value=FLOAT_SCALES),
        mantissa_bits=23,
        mantissa_mask=8388607,
        exponent_mask=255,
        sign_bit=31,
    )
    return InRows(values, rows)


@script(FERRUM, default_opset=op)
def DecodeF16(rows):
    """IEEE half precision."""
    return InRows(Half(Blocks(rows, bytes=2)), rows)


@script(FERRUM, default_opset=op)
def DecodeBF16(rows):
    """The upper half of a single: 1 sign bit, 8 of exponent, 7 of mantissa."""
    values = BinaryFloat(
        Words(Blocks(rows, bytes=2)),
        op.Constant(value=BFLOAT_SCALES),
        mantissa_bits=7,
        mantissa_mask=127,
        exponent_mask=255,
        sign_bit=15,
    )
    return InRows(values, rows)
