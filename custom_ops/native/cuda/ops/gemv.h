// Products of a few tokens on the GPU, in float32 all the way.
#pragma once

#include <cstdint>

#include "cuda/ops/linear.h"
#include "cuda/ops/moe.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

// Whether the products know the ggml type's blocks; others are dequantized first.
bool has_format(int type);

// Of types with a format. Any number of tokens, but the weights are read once per four.
void gemv(Queue& queue, ConstElements x, int64_t tokens, const Products& products);

// Pairs of a token and a slot, straight from the ids. `per_pair`: the matrices hold one expert per
// pair, in their order, instead of E experts.
void moe_gemv(Queue& queue, const MoeProblem& problem, bool per_pair);

}  // namespace ferrum::cuda
