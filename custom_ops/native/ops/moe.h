// The experts of a step: down(silu(gate(x)) * up(x)) of the chosen experts, summed by weight.
#pragma once

#include <cstdint>

#include "arena.h"
#include "ops/linear.h"
#include "parallel.h"
#include "settings.h"

namespace ferrum {

struct MoeProblem {
  int64_t tokens, k, expert_count;
  const float* x;          // [tokens, hidden]
  const float* weights;    // [tokens, k]
  const int32_t* experts;  // [tokens, k], each in 0 .. expert_count - 1
  Matrix gate, up;         // expert 0 of [width, hidden]; Matrix::at finds the others
  Matrix down;             // expert 0 of [hidden, width]
  float* out;              // [tokens, hidden]
};

// Three ways through the same sums. Every product depends on its own row and column alone and the
// slots are added in slot order, so all of them give the same bits:
//
//   one      a token by itself: the rows of its k experts as one long matrix-vector product
//   few      pairs sorted by expert, so that each expert's rows are read once for their tokens
//   grouped  the same with the longest expert first, so that threads end together
//
// Each has two parallel loops: gate, up and SiLU by (expert, chunk of rows); then down by chunk of
// rows over all experts, which leaves the chunk's products in cache for the sum over slots.
void run_moe(const MoeProblem& problem, const Settings& settings, ThreadPool& pool, Arena& arena);

}  // namespace ferrum
