// QK-norm, RoPE, cache write and causal GQA attention over a paged KV cache on the GPU.
#pragma once

#include <cstdint>

#include "cuda/queue.h"
#include "ops/kv_cache.h"

namespace ferrum::cuda {

// As ferrum::AttentionProblem (ops/attention.h), all pointers in device memory and unchecked: a
// sequence that does not fit its table or the cache is neither written nor read, and its tokens
// become NaN.
struct AttentionProblem {
  int64_t tokens, heads;
  KvCache cache;
  Sequences sequences;
  const float* q;         // [tokens, heads * head_dim]
  const float* k;         // [tokens, kv_heads * head_dim]
  const float* v;         // the same
  const float* q_norm;    // [head_dim]
  const float* k_norm;    // [head_dim]
  const float* inv_freq;  // [head_dim / 2]
  float scale, epsilon, rope_scale;
  float* out;  // [tokens, heads * head_dim]
};

void run_attention(Queue& queue, const AttentionProblem& problem);

}  // namespace ferrum::cuda
