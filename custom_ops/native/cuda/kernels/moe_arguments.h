// What the kernels take that sort a step's (token, slot) pairs by expert and add up their results.
#pragma once

#include <cstdint>

#include "cuda/kernels/gemm_arguments.h"

namespace ferrum::cuda {

constexpr int kAlignThreads = 512;
constexpr int kSiluThreads = 128;
constexpr int kCombineThreads = 64;
constexpr int kCombineColumns = 4 * kCombineThreads;  // of a block

// Pairs sorted by expert, each expert's padded with `pairs` to whole tiles.
struct AlignArguments {
  const int32_t* ids;  // [pairs]; a pair of an expert that does not exist comes nowhere
  int pairs, experts;
  int tile, tiles;       // positions of a tile, and tiles at most
  int32_t* counts;       // [experts]
  int32_t* sorted;       // [tiles, tile]
  int32_t* tile_expert;  // [tiles]; -1 for those that there are not
};

// The same in one block, of at most as many pairs and experts as it has threads, and in the others
// a row each of x [tokens, k] rounded as round_rows does.
struct AlignAndRoundArguments {
  AlignArguments align;  // without counts
  RoundArguments round;
};

// hidden [positions, rows.stride] = silu(gate) * up, both [positions, width].
struct SiluArguments {
  const float *gate, *up;
  uint16_t* hidden;
  int width;
  HalfRows rows;
  int tile;
  const int32_t* tile_expert;  // [tiles], as aligned
};

// out [tokens, width] = the sum over a token's slots, in their order, of weight * row; NaN where
// one of them names an expert that does not exist.
struct CombineArguments {
  const float* rows;     // [tokens, slots, width]
  const float* weights;  // [tokens, slots]
  const int32_t* ids;    // [tokens, slots]
  Elements out;
  int slots, experts;
  int width;  // a multiple of 16, as of all that goes in tiles
};

}  // namespace ferrum::cuda
