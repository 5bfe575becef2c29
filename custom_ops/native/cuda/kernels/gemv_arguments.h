// Arguments of gemv.cu.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum::cuda {

constexpr int kGemvThreads = 256;
constexpr int kGemvRows = 2;     // that a lane works on at once
constexpr int kGemvTile = 2048;  // values of x in shared memory at a time
constexpr int kMostGemvParts = 3;

// A matrix, and out [tokens, rows]. Its rows begin at block `first_block`.
struct GemvPart {
  const uint8_t* data;
  float* out;
  int64_t rows;
  size_t row_bytes;
  unsigned first_block;
};

// Grid: the parts' blocks of kGemvRows * kGemvThreads / lanes rows each, times groups of columns;
// blocks of the same rows stand side by side, so that all but one find the weights in L2.
struct GemvArguments {
  const float* x;  // [tokens, k]
  int64_t tokens;
  int k;
  int lanes;  // that share a row: a power of two, at most kGemvThreads
  int count;  // of parts
  unsigned column_groups;
  GemvPart parts[kMostGemvParts];
};

}  // namespace ferrum::cuda
