// QK-norm, RoPE, cache write and causal GQA attention over a paged KV cache.
#pragma once

#include <cstdint>

#include "arena.h"
#include "ops/kv_cache.h"
#include "parallel.h"
#include "settings.h"

namespace ferrum {

struct AttentionProblem {
  int64_t tokens, heads;
  KvCache cache;  // knows kv_heads and head_dim
  Sequences sequences;
  const float* q;         // [tokens, heads * head_dim]
  const float* k;         // [tokens, kv_heads * head_dim]
  const float* v;         // the same
  const float* q_norm;    // [head_dim]
  const float* k_norm;    // [head_dim]
  const float* inv_freq;  // [head_dim / 2]
  float scale, epsilon, rope_scale;
  float* out;  // [tokens, heads * head_dim]

  int64_t group() const { return heads / cache.kv_heads; }  // query heads of a key head
};

// Writes k and v of all tokens to their slots, then lets each token attend to positions 0 .. own
// of its sequence. The sequences have been checked.
void run_attention(const AttentionProblem& problem, const Settings& settings, ThreadPool& pool,
                   Arena& arena);

// The step's queries, normalized, rotated and scaled: [kv_heads, tokens, group, head_dim], so that
// the heads of neighbouring tokens that read the same keys lie together.
// Writes the step's keys and values to the cache on the way.
const float* rotate_and_store(const AttentionProblem& problem, const Kernels& kernels,
                              const int64_t* position, const int64_t* sequence, ThreadPool& pool,
                              Arena& arena);

}  // namespace ferrum
