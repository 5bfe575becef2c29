// Arguments of moe_gemv.cu. A pair is a token with one of its k slots; pairs are ordered by token.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/elements.h"

namespace ferrum::cuda {

constexpr int kMoeGemvThreads = 256;
constexpr int kMoeGemvSlots = kMoeGemvThreads / 32;  // of `down` at once: a warp each
constexpr int kHiddenTile = 2048;                    // values of x in shared memory at a time
constexpr int kWidthTile = 1024;                     // values of each slot's hidden row

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

// Grids: blocks of rows, slots, tokens.

// hidden [pairs, rows] = silu(gate x) * (up x). A block has threads / lanes rows.
struct MoeGateUpArguments {
  ConstElements x;  // [tokens, k]
  float* hidden;
  PairExperts chosen;
  ExpertMatrices gate, up;
  int k;
  int lanes;  // that share a row: a power of two, at most a warp
};

// out [pairs, rows] = matrix x, or, where `gates`, silu(gates) * that: gate and up of two types. A
// block has 2 * threads / lanes rows.
struct MoeProductArguments {
  ConstElements x;
  const float* gates;  // [pairs, rows], may be `out`
  float* out;
  PairExperts chosen;
  ExpertMatrices matrix;
  int k, lanes;
};

// out [tokens, rows] = the sum over a token's slots, in order, of weight * down hidden. A block has
// 2 * 32 / lanes rows, and all slots.
struct MoeDownArguments {
  const float* hidden;   // [pairs, k]
  const float* weights;  // [pairs]
  Elements out;
  PairExperts chosen;
  ExpertMatrices down;
  int slots, k, lanes;
};

}  // namespace ferrum::cuda
