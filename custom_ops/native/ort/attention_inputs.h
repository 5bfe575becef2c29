// PagedAttention's attributes and inputs, shapes checked against each other.
#pragma once

#include "ops/attention.h"
#include "ort/context.h"
#include "ort/node_info.h"

namespace ferrum::ort {

struct AttentionAttributes {
  explicit AttentionAttributes(const NodeInfo& info);  // throws Error

  const int64_t heads, kv_heads;
  const float scale, epsilon, rope_scale;
};

struct AttentionInputs {
  Tensor q, k, v, keys, values, table, ends, past, q_norm, k_norm, inv_freq;
  int64_t head_dim;

  int64_t tokens() const { return q.dims[0]; }

  // What a kernel is asked, but for the caches' buffers and `out`: those are outputs. q, k and v
  // are float32, or nothing that the kernel asks for.
  AttentionProblem problem(const AttentionAttributes& attributes) const;
};

// Throws Error; what the tensors hold is not looked at.
AttentionInputs attention_inputs(Context& context, const AttentionAttributes& attributes);

}  // namespace ferrum::ort
