// QK-norm, RoPE, cache write and causal GQA attention over a paged KV cache on the GPU.
#pragma once

#include "cuda/elements.h"
#include "cuda/queue.h"
#include "ops/attention.h"

namespace ferrum::cuda {

// The problem's activations, instead of its own q, k, v and out.
struct AttentionActivations {
  ConstElements q, k, v;
  Elements out;
};

// All pointers in device memory and unchecked: a sequence that does not fit its table or the cache
// is neither written nor read, and its tokens become NaN.
void run_attention(Queue& queue, const AttentionProblem& problem,
                   const AttentionActivations& activations);

}  // namespace ferrum::cuda
