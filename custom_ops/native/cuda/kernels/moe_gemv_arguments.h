// Arguments of moe_gemv.cu. A pair is a token with one of its k slots; pairs are ordered by token.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/kernels/unit_shapes.h"

namespace ferrum::cuda {

constexpr int kMoeGemvThreads = 256;
constexpr int kHiddenTile = 2048;  // values of x in shared memory at a time

// `down`: a warp multiplies rows of one slot's matrix with every `parts`-th 256 of their values, so
// that all of a token's weights are on their way at once.
constexpr int kDownTile = 256;
constexpr int kMostDownParts = 3;
struct DownShape {
  int lanes;  // that share a row
  int rows;   // that a lane works on at once
  int slots;  // of a block at once
  int rows_of_block, most_threads;
};
constexpr DownShape down_shape(int type) {
  const int per_block = unit_shape(type).per_block;
  const int lanes = per_block > 4 ? per_block : 4;
  // Q6_K's blocks are copied into shared memory, which holds half as many.
  const int rows = type == kQ5_K || type == kQ6_K ? 1 : 2, slots = type == kQ6_K ? 4 : 8;
  return {lanes, rows, slots, rows * 32 / lanes, 32 * slots * kMostDownParts};
}
template <int kType>
constexpr DownShape kDownShape = down_shape(kType);

// Matrices of experts, one after the other.
struct ExpertMatrices {
  const uint8_t* data;
  int64_t rows;  // of one
  size_t row_bytes;
};

struct PairExperts {
  const int32_t* ids;  // [pairs]; null where there is a matrix per pair instead of per expert
  int64_t experts;
};

constexpr int kGateUpLanes = 16;  // that share a row

// hidden [pairs, rows] = silu(gate x) * (up x). Grid: `blocks` of threads / lanes rows, per pair.
struct MoeGateUpArguments {
  const float* x;  // [pairs / slots, k]
  float* hidden;
  PairExperts chosen;
  ExpertMatrices gate, up;
  int slots;  // of a token
  int k;
  unsigned blocks;
};

// out [pairs, rows] = matrix x, or, where `gates`, silu(gates) * that: gate and up of two types.
// Grid: `blocks` of 2 * threads / lanes rows, per pair.
struct MoeProductArguments {
  const float* x;
  const float* gates;  // [pairs, rows], may be `out`
  float* out;
  PairExperts chosen;
  ExpertMatrices matrix;
  int slots, k;
  int lanes;  // that share a row: a power of two, at most a warp
  unsigned blocks;
};

// out [tokens, rows] = the sum over a token's slots, in order, of weight * down hidden. Grid:
// `blocks` of the shape's rows_of_block, per token; threads: a warp per slot of the shape and part.
struct MoeDownArguments {
  const float* hidden;   // [pairs, k]
  const float* weights;  // [pairs]
  float* out;
  PairExperts chosen;
  ExpertMatrices down;
  int slots, k, parts;
  unsigned blocks;
};

}  // namespace ferrum::cuda
