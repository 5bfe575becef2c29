// What the gemm's kernels take, and how a block of theirs divides its shared memory.
//
// The products of one launch are out = x times weights. Their columns ("positions") are tokens, or,
// with experts, places in a list of (token, slot) pairs that is sorted by expert and padded so that
// a tile of it belongs to one expert.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/elements.h"
#include "cuda/kernels/chunk_fields.h"
#include "cuda/kernels/unit_shapes.h"
#include "cuda/limits.h"
#include "quants.h"

namespace ferrum::cuda {

// Tensor-core products with a type take these; X(type).
// clang-format off
#define FERRUM_GEMM_FORMATS(X) \
  X(Q4_K) X(Q5_K) X(Q6_K) X(Q8_0) X(Q4_0) X(IQ4_XS) X(MXFP4) X(F16) X(BF16) \
  X(Q6_K_planes) X(Q8_0_planes) X(MXFP4_planes)
// clang-format on
// X(type, positions of a tile): the kernels gemm_<type>_<positions>, and the kernels
// gate_up_<type>_<positions>.
#define FERRUM_GEMM_TILES(X, type) X(type, 8) X(type, 16) X(type, 32) X(type, 64) X(type, 128)
#define FERRUM_GATE_UP_TILES(X, type) X(type, 8) X(type, 16) X(type, 32) X(type, 64)

constexpr int kGemmThreads = 128;
// X(type, tokens of a tile): the kernels gemm_few_<type>_<tokens>. Their blocks' warps divide k
// among themselves: all, or the half that has the same 32 rows.
#define FERRUM_FEW_TILES(X, type) X(type, 8) X(type, 16) X(type, 32)
constexpr int kFewWarps = 8;
constexpr int kFewThreads = 32 * kFewWarps;
constexpr int few_splits(int positions) { return positions <= 16 ? kFewWarps : kFewWarps / 2; }
constexpr int few_rows(int positions) { return 32 * kFewWarps / few_splits(positions); }
// Whether a stage's activations are loaded while the one in front is multiplied: where registers
// hold both.
constexpr bool few_loads_ahead(int type, int positions) {
  return positions <= 16 && type != kMXFP4_planes;
}
// Whether activations may be there as round_rows leaves them.
constexpr bool few_takes_rounded(int type, int positions) {
  return positions == 16 && few_loads_ahead(type, positions);
}
constexpr int kGemmRows = 128;    // that a block multiplies; of gate and up half each
constexpr int kStageValues = 64;  // of k that a stage covers
constexpr int kStageSlices = kStageValues / 16;
constexpr int kStageBytes = 2 * kStageValues;      // of one position
constexpr int kMeanValues = 16;                    // that a row of activations has a mean of
constexpr int kMeanBytes = 2 * 256 / kMeanValues;  // of one position and 256 values
// Rows of activations in float16: values in the order of paired_index, zeros beyond k, and behind
// them the means of each 16, in the order of mean_index (halves_codes.h).
struct HalfRows {
  int values;  // whole stages
  int stride;  // from row to row
};
constexpr int64_t whole_stages(int64_t n) {
  return (n + kStageValues - 1) / kStageValues * kStageValues;
}
constexpr int64_t half_stride(int64_t k) {
  return whole_stages(k) + whole_stages(whole_stages(k) / kMeanValues);
}
constexpr HalfRows half_rows(int64_t k) {
  return {static_cast<int>(whole_stages(k)), static_cast<int>(half_stride(k))};
}

// Whether the grid counts blocks of rows first, and tiles in its second dimension. Of tiles of 8 a
// third may not exist: their blocks come after all others then, and not between them. Wider tiles
// of one expert come side by side, and share the weights' way to L2.
constexpr bool tiles_last(int positions) { return positions == 8; }
constexpr int64_t kMostTilesLast = kMostGrid[1];

// A list of pairs sorted by expert. Beyond an expert's own pairs its last tile holds `count`.
struct SortedPairs {
  const int32_t* pairs;        // [tiles * tile]; null: position i is row i of x and out
  const int32_t* tile_expert;  // [the grid's tiles]; -1: the tile does not exist
  int count;                   // of pairs that exist, or of rows of x
};

struct GemmMatrix {
  const uint8_t* data;  // of the first expert, at a multiple of 16
  const uint8_t* end;   // behind the last expert
  void* out;            // gemm: [pairs, rows], or, where out_by_position, [positions, rows]
  int rows;
  int first_block;  // of the grid's second dimension
};

struct GemmArguments {
  GemmMatrix matrices[kMostProducts];  // of one type and k; or gate and up
  int count;                           // of matrices that are there; gate_up: unused
  size_t matrix_bytes;                 // from expert to expert
  size_t row_bytes;
  int stages;            // k / kStageValues, rounded up
  const uint16_t* x;     // as round_rows leaves it
  uint32_t x_row;        // from row to row of it, in units of 16 bytes
  ConstElements values;  // gemm_few: in place of that, [rows of x, k]; or kRounded, as x
  int k;
  int slots;  // row of x = pair / slots; 0: the position
  int tile;   // positions of a tile, at most those of the kernel
  SortedPairs sorted;
  bool out_by_position;
  int out_type;      // gemm: ggml id of F32, F16 or BF16
  uint16_t* hidden;  // gate_up: [positions, hidden_rows.stride]
  HalfRows hidden_rows;
};

// Products of several types in one launch, gemm_few_mixed_*: those of each type have the blocks
// from their first matrix's first_block on. count = 0: there are none.
struct MixedGemmArguments {
#define FERRUM_ARGUMENTS_OF(type) GemmArguments type;
  FERRUM_MIXED_TYPES(FERRUM_ARGUMENTS_OF)
#undef FERRUM_ARGUMENTS_OF
};

constexpr int kRounded = -1;  // what stands in place of a ggml id for what round_rows leaves
constexpr int kRoundThreads = 128;

// x [rows, k] in float16, within +-65504 but for what is float16 and infinite already.
struct RoundArguments {
  ConstElements x;
  uint16_t* out;
  int k;  // a multiple of 16
  HalfRows rows;
};

// Weights are copied to shared memory in chunks: whole blocks of a row and whole stages.
struct WeightChunk {
  int bytes, stages;
  int granule;  // the power of two, at most 16, at whose multiples chunks begin
  int pieces;   // of 16 bytes that a chunk can lie in
  int stride;   // from row to row: an odd count of pieces, whose loads of 16 bytes fill all banks,
                // or 32 beside a multiple of 64, where 4 rows meet with loads of 8
  bool whole;   // every chunk is all there, and whole pieces
};

constexpr WeightChunk weight_chunk(int type) {
  const QuantFormat& format = format_row(type);
  const int block = static_cast<int>(format.block), bytes = static_cast<int>(format.bytes);
  const bool floats = block == 1;
  const int values = block > 128 ? block : floats ? kStageValues : 128;
  WeightChunk chunk{values / block * bytes, values / kStageValues, 16, 0, 0, false};
  if (format.in_planes()) {  // 32 beside a multiple of 64 as they come
    chunk.stride = chunk_begin(type, kMostFields, values / block);
    chunk.pieces = chunk.stride / 16;
    return chunk;
  }
  while (!floats && bytes % chunk.granule != 0) chunk.granule /= 2;
  chunk.pieces = (chunk.bytes + 16 - chunk.granule + 15) / 16;
  chunk.stride = 16 * (chunk.pieces | 1);
  if (values == block && chunk.granule >= 8 && chunk.stride % 64 == 16) chunk.stride += 16;
  chunk.whole = values == block && chunk.granule == 16;
  return chunk;
}

// Stages under way at once.
constexpr int gemm_depth(int positions) { return positions <= 32 ? 4 : positions <= 64 ? 3 : 2; }

// Stages of a whole chunk that a loop goes through without asking which they are: all for which
// there are registers.
constexpr int gemm_stages_in_turn(int type, int positions) {
  if (positions == 64 && type == kQ4_K) return 2;
  if (positions == 64 && type == kQ5_K) return 1;
  if (positions == 128 && type == kQ6_K_planes) return 1;
  return weight_chunk(type).stages;
}

// Chunks in shared memory: none is overwritten that a stage still reads.
constexpr int chunk_buffers(int type, int positions) {
  const int stages = weight_chunk(type).stages;
  return (gemm_depth(positions) - 1 + stages - 1) / stages + 1;
}

// Of gemm_few, whose warps have 32 rows each: one where two would take more than kMostShared.
constexpr int few_buffers(int type) {
  return 2 * kFewThreads * weight_chunk(type).stride <= 90 * 1024 ? 2 : 1;
}

// Of a row and chunk, the scales as Halves<type>::prepare leaves them; 0: it has none.
constexpr int prepared_bytes(int type) {
  switch (format_row(type).blocks) {
    case kQ4_K:
    case kQ5_K:
    case kQ6_K: return 32;
    case kIQ4_XS: return 16;
    default: return 0;
  }
}

// Tiles of 8 take them as they lie in global memory.
constexpr int activation_bytes(int positions) {
  return positions == 8 ? 0 : positions * (gemm_depth(positions) * kStageBytes + kMeanBytes);
}
constexpr int gemm_shared(int type, int positions, int stride) {
  return activation_bytes(positions) + chunk_buffers(type, positions) * kGemmRows * stride +
         kGemmRows * prepared_bytes(type);
}
// From row to row of a chunk: as weight_chunk says, but for tiles that would be too large then.
constexpr int gemm_stride(int type, int positions) {
  const WeightChunk chunk = weight_chunk(type);
  return gemm_shared(type, positions, chunk.stride) <= kMostShared ? chunk.stride
                                                                   : 16 * chunk.pieces;
}
constexpr int gemm_shared(int type, int positions) {
  return gemm_shared(type, positions, gemm_stride(type, positions));
}
constexpr int few_shared(int type) {
  return kFewThreads * (few_buffers(type) * weight_chunk(type).stride + prepared_bytes(type));
}

}  // namespace ferrum::cuda
