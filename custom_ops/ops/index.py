"""Indices that an application gives: ids of tokens, experts and blocks."""

from __future__ import annotations

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.decode.bits import FERRUM

# Behind the end of every tensor, and positions may still be added to it.
_BEHIND = 1 << 40


@script(FERRUM, default_opset=op)
def Counted(index):
    """int64, elementwise: the index, but one below 0 is behind the end, where gathers refuse it.

    ONNX's own would count it from the end, and a step write into whose block lies there.
    """
    return op.Where(op.Less(index, op.Constant(value_int=0)), op.Constant(value_int=_BEHIND), index)
