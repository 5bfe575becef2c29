"""Bytes to numbers in standard ONNX ops: what every decode function is made of.

Inputs named `bytes_` are uint8[N, n], N blocks of n bytes; multi-byte numbers are little-endian.
Halves and floats are put together arithmetically, because opset 18 has no bit cast.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper
from onnxscript import opset18 as op
from onnxscript import script
from onnxscript.values import Opset

FERRUM = Opset("ferrum", 1)


def constant(values: object, dtype: type) -> onnx.TensorProto:
    """A tensor for op.Constant(value=...)."""
    return numpy_helper.from_array(np.asarray(values, dtype))


def _float_scales(exponents: int, bias: int, mantissa_bits: int) -> onnx.TensorProto:
    """The value of a mantissa's lowest bit for every stored exponent of an IEEE format.

    Exponent 0 holds subnormals, which share the scale of exponent 1; the largest is infinity.
    """
    stored = np.arange(exponents)
    scales = np.ldexp(1.0, np.maximum(stored, 1) - bias - mantissa_bits)
    scales[-1] = np.inf
    return constant(scales, np.float32)


HALF_SCALES = _float_scales(32, 15, 10)
FLOAT_SCALES = _float_scales(256, 127, 23)
BFLOAT_SCALES = _float_scales(256, 127, 7)

BYTE_0 = constant(0, np.uint8)
BYTE_255 = constant(255, np.uint8)
BYTE_SHIFTS = constant([[0, 8, 16, 24]], np.uint32)
PAIR_WEIGHTS = constant([[1], [256]], np.float32)
ZERO = constant(0, np.int32)


@script(FERRUM, default_opset=op)
def Bits(x, shift: int, mask: int):
    """(x >> shift) & mask, elementwise, in x's own unsigned type."""
    by = op.CastLike(op.Constant(value_int=shift), x)
    keep = op.CastLike(op.Constant(value_int=mask), x)
    return op.BitwiseAnd(op.BitShift(x, by, direction="RIGHT"), keep)


@script(FERRUM, default_opset=op)
def Unpack(bytes_, width: int, bits: int):
    """uint8[N, n * 8 / bits]: each run of `width` bytes becomes 8 / bits runs, low bits first."""
    count = op.Shape(bytes_, start=0, end=1)
    one = op.Constant(value_ints=[1])
    step = op.Constant(value_int=bits)
    eight = op.Constant(value_int=8)
    zero = op.Constant(value_int=0)
    shifts = op.Cast(op.Range(zero, eight, step), to=2)
    parts = op.Shape(shifts)
    runs = op.Reshape(
        bytes_,
        op.Concat(
            op.Constant(value_ints=[-1, 1]), op.Unsqueeze(op.Constant(value_int=width), 0), axis=0
        ),
    )
    columns = op.Reshape(shifts, op.Concat(one, parts, one, axis=0))
    top = op.Cast(op.Sub(eight, step), to=2)
    mask = op.BitShift(op.Constant(value=BYTE_255), top, direction="RIGHT")
    values = op.BitwiseAnd(op.BitShift(runs, columns, direction="RIGHT"), mask)
    size = op.Mul(op.Shape(bytes_, start=1, end=2), parts)
    return op.Reshape(values, op.Concat(count, size, axis=0))


@script(FERRUM, default_opset=op)
def Words(bytes_):
    """uint32[N, n / 2]: 16-bit words."""
    count = op.Shape(bytes_, start=0, end=1)
    pairs = op.Reshape(op.Cast(bytes_, to=12), op.Constant(value_ints=[-1, 2]))
    words = op.MatMul(op.Cast(pairs, to=1), op.Constant(value=PAIR_WEIGHTS))
    return op.Reshape(op.Cast(words, to=12), op.Concat(count, op.Constant(value_ints=[-1]), axis=0))


@script(FERRUM, default_opset=op)
def LongWords(bytes_):
    """uint32[N, n / 4]: 32-bit words."""
    count = op.Shape(bytes_, start=0, end=1)
    quads = op.Reshape(op.Cast(bytes_, to=12), op.Constant(value_ints=[-1, 4]))
    placed = op.BitShift(quads, op.Constant(value=BYTE_SHIFTS), direction="LEFT")
    halves = op.BitwiseOr(placed[:, 0:2], placed[:, 2:4])
    words = op.BitwiseOr(halves[:, 0:1], halves[:, 1:2])
    return op.Reshape(words, op.Concat(count, op.Constant(value_ints=[-1]), axis=0))


@script(FERRUM, default_opset=op)
def BinaryFloat(
    word, scales, mantissa_bits: int, mantissa_mask: int, exponent_mask: int, sign_bit: int
):
    """float, elementwise: the IEEE 754 number whose fields a uint32 holds.

    `scales` has, for every stored exponent, the value of the mantissa's lowest bit.
    """
    exponent = op.Cast(Bits(word, shift=mantissa_bits, mask=exponent_mask), to=6)
    mantissa = op.Cast(Bits(word, shift=0, mask=mantissa_mask), to=1)
    normal = op.Cast(op.Greater(exponent, op.Constant(value=ZERO)), to=1)
    hidden = normal * (op.Cast(op.Constant(value_int=mantissa_mask), to=1) + 1.0)
    sign = 1.0 - 2.0 * op.Cast(Bits(word, shift=sign_bit, mask=1), to=1)
    return (mantissa + hidden) * op.Gather(scales, exponent) * sign


@script(FERRUM, default_opset=op)
def HalfOfWord(word):
    """float, elementwise: the half-precision number that a uint32 holds in its low 16 bits."""
    return BinaryFloat(
        word,
        op.Constant(value=HALF_SCALES),
        mantissa_bits=10,
        mantissa_mask=1023,
        exponent_mask=31,
        sign_bit=15,
    )


@script(FERRUM, default_opset=op)
def Half(bytes_):
    """float[N, n / 2]: IEEE half-precision numbers."""
    return HalfOfWord(Words(bytes_))


@script(FERRUM, default_opset=op)
def Signed(bytes_):
    """float[N, n]: two's complement bytes."""
    values = op.Cast(bytes_, to=1)
    return values - 256.0 * op.Cast(op.Greater(values, 127.0), to=1)


@script(FERRUM, default_opset=op)
def Signs(bytes_):
    """float[N, 8 n]: -1 for each set bit, 1 for each clear one, lowest bit first."""
    return 1.0 - 2.0 * op.Cast(Unpack(bytes_, width=1, bits=1), to=1)


@script(FERRUM, default_opset=op)
def Scaled(values, scales):
    """float[N, n]: values[N, n] in g equal runs, each times its own of scales[N, g]."""
    runs = op.Reshape(values, op.Concat(op.Shape(scales), op.Constant(value_ints=[-1]), axis=0))
    return op.Reshape(runs * op.Unsqueeze(scales, op.Constant(value_ints=[2])), op.Shape(values))


@script(FERRUM, default_opset=op)
def Spread(scales, like):
    """float[N, n]: each of scales[N, g] repeated over its run of like[N, n]."""
    return Scaled(op.CastLike(op.ConstantOfShape(op.Shape(like)), scales) + 1.0, scales)


@script(FERRUM, default_opset=op)
def Blocks(rows, bytes: int):
    """uint8[N, bytes]: rows of whole blocks cut into blocks.

    Other rows are filled up to a whole block: shape inference and constant folding also walk the
    branches of types that these rows are not of, and must not fail there.
    """
    flat = op.Reshape(rows, op.Constant(value_ints=[-1]))
    size = op.Unsqueeze(op.Constant(value_int=bytes), 0)
    rest = op.Mod(op.Neg(op.Shape(flat)), size)
    filled = op.Concat(flat, op.Expand(op.Constant(value=BYTE_0), rest), axis=0)
    return op.Reshape(filled, op.Concat(op.Constant(value_ints=[-1]), size, axis=0))


@script(FERRUM, default_opset=op)
def Plane(blocks, begin: int, size: int):
    """uint8[N, size]: of blocks[N, bytes] that lie in planes, the field `begin` bytes into each."""
    count = op.Shape(blocks, start=0, end=1)
    flat = op.Reshape(blocks, op.Constant(value_ints=[-1]))
    width = op.Unsqueeze(op.Constant(value_int=size), 0)
    first = count * op.Unsqueeze(op.Constant(value_int=begin), 0)
    plane = op.Slice(flat, first, first + count * width)
    return op.Reshape(plane, op.Concat(count, width, axis=0), allowzero=1)


@script(FERRUM, default_opset=op)
def InRows(values, rows):
    """[R, columns]: blocks, or what they decode to, laid end to end in the R rows they came from.

    The count is cut to a multiple of R for the same reason as in `Blocks`: ONNX Runtime folds
    constants in branches that are never taken, too, and must not fail there.
    """
    count = op.Shape(rows, start=0, end=1)
    flat = op.Reshape(values, op.Constant(value_ints=[-1]))
    columns = op.Shape(flat) / count
    whole = op.Slice(flat, op.Constant(value_ints=[0]), columns * count)
    return op.Reshape(whole, op.Concat(count, columns, axis=0), allowzero=1)
