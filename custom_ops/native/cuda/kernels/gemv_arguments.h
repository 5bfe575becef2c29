// Arguments of gemv.cu.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/elements.h"
#include "cuda/kernels/unit_shapes.h"

namespace ferrum::cuda {

constexpr int kGemvThreads = 128;
constexpr int kGemvRows = 2;  // that a lane works on at once
// Values of x in shared memory at a time: of one column the whole of most models' rows, for warps
// whose share begins in a later tile would wait for the first.
template <int kColumns>
constexpr int kGemvTile = kColumns == 1 ? 4096 : 2048;
// Rows of a block with a float32 matrix, which all its threads share: a router has few rows.
constexpr int gemv_f32_rows(int columns) { return columns; }

// A matrix, and out [tokens, rows]. Its rows begin at block `first_block`.
struct GemvPart {
  int type;  // ggml id
  const uint8_t* data;
  void* out;
  int64_t rows;
  size_t row_bytes;
  unsigned first_block;
};

// Grid: the parts' blocks of kGemvRows * kGemvThreads / lanes rows each, or gemv_f32_rows, times
// groups of columns, one for the kernels of one or two columns; blocks of the same rows stand side
// by side, so that all but one find the weights in L2.
struct GemvArguments {
  ConstElements x;  // [tokens, k]
  int out_type;     // ggml id of F32, F16 or BF16
  int64_t tokens;
  int k;
  int lanes;  // that share a row: a power of two, at most kGemvThreads
  int count;  // of parts
  unsigned column_groups;
  int block_rows;  // of a block
  GemvPart parts[kMostProducts];
};

}  // namespace ferrum::cuda
