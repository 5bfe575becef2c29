// Products of a few tokens on tensor cores, in blocks whose warps divide k
// (kernels/gemm_few-inl.h).
#pragma once

#include <cstdint>

#include "cuda/elements.h"
#include "cuda/ops/linear.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

// Those that go together are one launch. Any number of tokens, but every tile of 32 reads the
// matrices anew.
void gemm_few(Queue& queue, ConstElements x, int64_t tokens, const Products& products);

}  // namespace ferrum::cuda
