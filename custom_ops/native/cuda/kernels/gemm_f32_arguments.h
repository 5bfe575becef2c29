// Arguments of gemm_f32.cu.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/elements.h"

namespace ferrum::cuda {

constexpr int kF32Tokens = 64, kF32Rows = 32;  // a block's tile of the result
constexpr int kF32Threads = 128;               // each for 4 tokens and 4 rows of it

// out [tokens, rows] = x times a float32 matrix. Grid: tiles of tokens, of rows.
struct GemmF32Arguments {
  ConstElements x;
  const float* matrix;  // [rows, k]
  Elements out;
  int64_t tokens, rows;
  int k;
};

}  // namespace ferrum::cuda
