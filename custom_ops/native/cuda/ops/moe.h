// The experts' products of a step on the GPU.
#pragma once

#include <cstdint>

#include "cuda/elements.h"
#include "cuda/matrix.h"
#include "cuda/queue.h"
#include "settings.h"

namespace ferrum::cuda {

struct MoeProblem {
  int64_t tokens, k, experts;
  ConstElements x;        // [tokens, hidden]
  const float* weights;   // [tokens, k]
  const int32_t* ids;     // [tokens, k]; on the device, so unchecked: a wrong one makes NaN
  Matrix gate, up, down;  // of the first expert; gate and up [width, hidden], down [hidden, width]
  Elements out;           // [tokens, hidden]
};

void run_moe(Queue& queue, const MoeProblem& problem, const Settings& settings);

}  // namespace ferrum::cuda
