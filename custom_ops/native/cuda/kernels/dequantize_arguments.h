// Arguments of dequantize.cu and gather.cu.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum::cuda {

constexpr int kDecodeThreads = 64;  // and as many blocks of values, where a thread decodes one

// out [rows, k] float16 = the rows of matrices that lie one after the other, or of those that `ids`
// names, in its order.
struct DequantizeArguments {
  const int32_t* ids;  // one per matrix of the output; null for all matrices as they lie
  uint16_t* out;
  int64_t rows, k;      // of all matrices together
  int64_t matrix_rows;  // of one
  const uint8_t* data;
  int64_t matrices;  // at `data`
  size_t row_bytes;
};

// out [rows, k] float32 = rows `ids` of a matrix of `known_rows`.
struct GatherArguments {
  const int64_t* ids;  // [rows]
  float* out;
  int64_t rows, k;
  const uint8_t* data;
  int64_t known_rows;
  size_t row_bytes;
};

}  // namespace ferrum::cuda
