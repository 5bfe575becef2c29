// Many rows of activations times float32 matrices on the GPU, in float32.
#pragma once

#include <cstdint>

#include "cuda/ops/linear.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

void gemm_f32(Queue& queue, ConstElements x, int64_t tokens, const Product& product);

}  // namespace ferrum::cuda
