"""PagedAttention: QK-norm, RoPE, cache write and causal GQA attention over a paged KV cache."""

from __future__ import annotations

from onnxscript import opset18 as op
from onnxscript import script

from ferrum.custom_ops.contract import CACHE, FLOAT, INT32, Attr, F, Op, Port
from ferrum.custom_ops.decode.bits import FERRUM
from ferrum.custom_ops.ops.index import Counted
from ferrum.custom_ops.ops.rms_norm import RMSNorm


@script(FERRUM, default_opset=op)
def Rotate(x, cosine, sine):
    """[T, heads, D] rotated by halves (NEOX style); cosine and sine are [T, 1, D/2]."""
    first, second = op.Split(x, num_outputs=2, axis=2)
    return op.Concat(first * cosine - second * sine, second * cosine + first * sine, axis=2)


@script(FERRUM, default_opset=op)
def Heads(x, count):
    """[T, count * D] to float32 [T, count, D]."""
    shape = op.Concat(op.Shape(x, start=0, end=1), count, op.Constant(value_ints=[-1]), axis=0)
    return op.Reshape(op.Cast(x, to=1), shape)


@script(FERRUM, default_opset=op)
def CachedHeads(cache, at, group):
    """The cache rows at [n, 2] (block, slot), each KV head repeated for its group of query heads.

    float32 [n, Hkv * group, D]
    """
    rows = op.Cast(op.GatherND(cache, at), to=1)
    heads = op.Shape(rows, start=1, end=2) * group
    index = op.Range(op.Constant(value_int=0), op.Squeeze(heads), op.Constant(value_int=1))
    return op.Gather(rows, index / group, axis=1)


@script(FERRUM, default_opset=op)
def PagedAttention(
    q,
    k,
    v,
    key_cache,
    value_cache,
    block_table,
    cumulative_sequence_lengths,
    past_sequence_lengths,
    q_norm,
    k_norm,
    inv_freq,
    num_heads: int,
    kv_num_heads: int,
    scale: float,
    epsilon: float,
    rope_scale: float,
):
    """All writes first; then a loop over the sequences, each gathered through its own table row."""
    zero = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    heads = op.Unsqueeze(op.Constant(value_int=num_heads), 0)
    kv_heads = op.Unsqueeze(op.Constant(value_int=kv_num_heads), 0)
    bounds = op.Cast(cumulative_sequence_lengths, to=7)
    past = Counted(op.Cast(past_sequence_lengths, to=7))
    table = Counted(op.Cast(block_table, to=7))
    block_size = op.Shape(key_cache, start=1, end=2)

    # Which sequence and position each token of the step has.
    index = op.Range(zero, op.Squeeze(op.Shape(q, start=0, end=1)), one)
    begun = op.GreaterOrEqual(op.Unsqueeze(index, 1), op.Unsqueeze(bounds[1:], 0))
    sequence = op.ReduceSum(op.Cast(begun, to=7), op.Constant(value_ints=[1]), keepdims=0)
    position = op.Gather(past, sequence) + index - op.Gather(bounds, sequence)

    angle = op.Unsqueeze(op.Cast(position, to=1), 1) * op.Unsqueeze(inv_freq, 0)
    amplitude = op.Constant(value_float=rope_scale)
    cosine = op.Unsqueeze(op.Cos(angle) * amplitude, 1)
    sine = op.Unsqueeze(op.Sin(angle) * amplitude, 1)
    query = Rotate(RMSNorm(Heads(q, heads), q_norm, epsilon=epsilon), cosine, sine)
    key = Rotate(RMSNorm(Heads(k, kv_heads), k_norm, epsilon=epsilon), cosine, sine)

    column = op.Unsqueeze(position / block_size, 1)
    block = op.GatherND(table, op.Concat(op.Unsqueeze(sequence, 1), column, axis=1))
    at = op.Concat(op.Unsqueeze(block, 1), op.Unsqueeze(op.Mod(position, block_size), 1), axis=1)
    keys = op.ScatterND(key_cache, at, op.CastLike(key, key_cache))
    values = op.ScatterND(value_cache, at, op.CastLike(Heads(v, kv_heads), value_cache))

    group = heads / kv_heads
    out = op.Cast(q, to=1)[0:0]
    for b in range(op.Squeeze(op.Shape(past))):
        start = op.Gather(bounds, op.Unsqueeze(b, 0))
        end = op.Gather(bounds, op.Unsqueeze(b + 1, 0))
        if op.Squeeze(op.Greater(end, start)):
            before = op.Gather(past, op.Unsqueeze(b, 0))
            seen = op.Range(zero, op.Squeeze(before + end - start), one)
            row = op.Gather(op.Gather(table, b), seen / block_size)
            where = op.Concat(
                op.Unsqueeze(row, 1), op.Unsqueeze(op.Mod(seen, block_size), 1), axis=1
            )
            own = op.Slice(query, start, end, op.Constant(value_ints=[0]))
            scores = op.MatMul(
                op.Transpose(own, perm=[1, 0, 2]),
                op.Transpose(CachedHeads(keys, where, group), perm=[1, 2, 0]),
            )
            scores = scores * op.Constant(value_float=scale)
            asking = op.Slice(position, start, end, op.Constant(value_ints=[0]))
            visible = op.LessOrEqual(op.Unsqueeze(seen, 0), op.Unsqueeze(asking, 1))
            masked = op.Where(visible, scores, op.Constant(value_float=-3.4e38))
            found = op.MatMul(
                op.Softmax(masked, axis=-1),
                op.Transpose(CachedHeads(values, where, group), perm=[1, 0, 2]),
            )
            flat = op.Reshape(
                op.Transpose(found, perm=[1, 0, 2]),
                op.Concat(end - start, op.Shape(q, start=1, end=2), axis=0),
            )
            out = op.Concat(out, flat, axis=0)
        else:  # some ONNX Runtimes divide by zero where there are no rows
            out = op.Identity(out)
    return op.CastLike(out, q), keys, values


PAGED_ATTENTION = Op(
    "PagedAttention",
    since=1,
    doc="RMS-normalizes the heads of q and k, rotates them by position (halves, NEOX style), "
    "writes k and v of all T tokens to their slots, then lets each token attend to positions "
    "0..own of its sequence through the block table.",
    inputs=(
        Port("q", F, "[T, Hq*D]"),
        Port("k", F, "[T, Hkv*D]"),
        Port("v", F, "[T, Hkv*D]"),
        Port("key_cache", CACHE, "[blocks, block_size, Hkv, D]"),
        Port("value_cache", CACHE, "[blocks, block_size, Hkv, D]"),
        Port("block_table", INT32, "[B, columns]"),
        Port("cumulative_sequence_lengths", INT32, "[B + 1]"),
        Port("past_sequence_lengths", INT32, "[B]"),
        Port("q_norm", FLOAT, "[D]"),
        Port("k_norm", FLOAT, "[D]"),
        Port("inv_freq", FLOAT, "[D/2]"),
    ),
    outputs=(
        Port("output", F, "[T, Hq*D]"),
        Port("key_cache_out", CACHE, "[blocks, block_size, Hkv, D]"),
        Port("value_cache_out", CACHE, "[blocks, block_size, Hkv, D]"),
    ),
    attributes=(
        Attr("num_heads", int, "query heads, Hq"),
        Attr("kv_num_heads", int, "key and value heads, Hkv"),
        Attr("scale", float, "what q times k is multiplied with"),
        Attr("epsilon", float, "of the norms of q and k"),
        Attr("rope_scale", float, "amplitude of the rotation (YaRN's attention factor)"),
    ),
    reference=PagedAttention,
)
