"""Types with blocks of 32 or 64 values to float32, in standard ONNX ops.

A block is a scale (and for the _1 types a minimum) and 32 codes: y = d * code (+ m).
"""

from __future__ import annotations

import numpy as np
from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.decode.bits import (
    FERRUM,
    Blocks,
    Half,
    InRows,
    Scaled,
    Signed,
    Unpack,
    constant,
)

IQ4_NL_VALUES = constant(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)
# The eight magnitudes of a 4-bit float (E2M1), doubled so that they are whole numbers.
FP4_VALUES = constant([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
# A bare exponent byte (E8M0) with bias 127, halved because the codes above are doubled.
E8M0_HALVES = constant(np.ldexp(1.0, np.arange(256) - 128), np.float32)


def _ue4m3_halves() -> np.ndarray:
    """Every unsigned 8-bit float E4M3 (bias 7), halved as above; 127 is no number."""
    stored = np.arange(256)
    exponent, mantissa = stored >> 3 & 15, stored & 7
    values = np.where(
        exponent == 0, np.ldexp(mantissa, -9), np.ldexp(1 + mantissa / 8, exponent - 7)
    )
    return np.where(stored == 127, 0.0, values / 2)


UE4M3_HALVES = constant(_ue4m3_halves(), np.float32)


@script(FERRUM, default_opset=op)
def DecodeQ4_0(rows):
    """d: half; 16 bytes of nibbles, offset 8."""
    b = Blocks(rows, bytes=18)
    code = op.Cast(Unpack(b[:, 2:18], width=16, bits=4), to=1) - 8.0
    return InRows(Half(b[:, 0:2]) * code, rows)


@script(FERRUM, default_opset=op)
def DecodeQ4_1(rows):
    """d, m: halves; 16 bytes of nibbles."""
    b = Blocks(rows, bytes=20)
    code = op.Cast(Unpack(b[:, 4:20], width=16, bits=4), to=1)
    return InRows(Half(b[:, 0:2]) * code + Half(b[:, 2:4]), rows)


@script(FERRUM, default_opset=op)
def DecodeQ5_0(rows):
    """d: half; 32 fifth bits; 16 bytes of nibbles; offset 16."""
    b = Blocks(rows, bytes=22)
    high = op.Cast(Unpack(b[:, 2:6], width=1, bits=1), to=1)
    low = op.Cast(Unpack(b[:, 6:22], width=16, bits=4), to=1)
    return InRows(Half(b[:, 0:2]) * (low + high * 16.0 - 16.0), rows)


@script(FERRUM, default_opset=op)
def DecodeQ5_1(rows):
    """d, m: halves; 32 fifth bits; 16 bytes of nibbles."""
    b = Blocks(rows, bytes=24)
    high = op.Cast(Unpack(b[:, 4:8], width=1, bits=1), to=1)
    low = op.Cast(Unpack(b[:, 8:24], width=16, bits=4), to=1)
    code = low + high * 16.0
    return InRows(Half(b[:, 0:2]) * code + Half(b[:, 2:4]), rows)


@script(FERRUM, default_opset=op)
def DecodeQ8_0(rows):
    """d: half; 32 signed bytes."""
    b = Blocks(rows, bytes=34)
    return InRows(Half(b[:, 0:2]) * Signed(b[:, 2:34]), rows)


@script(FERRUM, default_opset=op)
def DecodeIQ4_NL(rows):
    """d: half; 16 bytes of nibbles, looked up in a table that is denser near zero."""
    b = Blocks(rows, bytes=18)
    code = op.Cast(Unpack(b[:, 2:18], width=16, bits=4), to=6)
    values = op.Gather(op.Constant(value=IQ4_NL_VALUES), code)
    return InRows(Half(b[:, 0:2]) * values, rows)


@script(FERRUM, default_opset=op)
def DecodeMXFP4(rows):
    """OCP microscaling: one exponent byte; 16 bytes of 4-bit floats."""
    b = Blocks(rows, bytes=17)
    scale = op.Gather(op.Constant(value=E8M0_HALVES), op.Cast(b[:, 0:1], to=6))
    code = op.Cast(Unpack(b[:, 1:17], width=16, bits=4), to=6)
    return InRows(scale * op.Gather(op.Constant(value=FP4_VALUES), code), rows)


@script(FERRUM, default_opset=op)
def DecodeNVFP4(rows):
    """Four 8-bit float scales, one for 16 values each; 32 bytes of 4-bit floats."""
    b = Blocks(rows, bytes=36)
    scales = op.Gather(op.Constant(value=UE4M3_HALVES), op.Cast(b[:, 0:4], to=6))
    code = op.Cast(Unpack(b[:, 4:36], width=8, bits=4), to=6)
    values = op.Gather(op.Constant(value=FP4_VALUES), code)
    return InRows(Scaled(values, scales), rows)
