"""The ops of the `ferrum` domain: contract and reference body, one file a family."""

from __future__ import annotations

from ferrum.custom_ops.contract import Op
from ferrum.custom_ops.ops.embedding import QUANT_GATHER
from ferrum.custom_ops.ops.paged_attention import PAGED_ATTENTION
from ferrum.custom_ops.ops.quant_matmul import QUANT_LOGITS, QUANT_MATMUL, QUANT_QKV
from ferrum.custom_ops.ops.quant_moe import HOST_QUANT_MOE, QUANT_MOE
from ferrum.custom_ops.ops.rms_norm import ADD_RMS_NORM, RMS_NORM
from ferrum.custom_ops.ops.route_topk import ROUTE_TOPK

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        QUANT_GATHER,
        QUANT_MATMUL,
        QUANT_LOGITS,
        QUANT_QKV,
        RMS_NORM,
        ADD_RMS_NORM,
        ROUTE_TOPK,
        QUANT_MOE,
        HOST_QUANT_MOE,
        PAGED_ATTENTION,
    )
}
