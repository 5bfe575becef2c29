// A matrix of ggml blocks in device memory, as host code and kernels pass it on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum::cuda {

struct Matrix {
  int type;  // ggml id
  const uint8_t* data;
  int64_t rows, k;  // of each matrix, where `data` holds several (experts), one after the other
  size_t row_bytes;
};

}  // namespace ferrum::cuda
