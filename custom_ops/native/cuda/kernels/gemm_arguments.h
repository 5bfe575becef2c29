// What the gemm's kernels take, and how a block of theirs divides its shared memory.
//
// The products of one launch are out = x times weights. Their columns ("positions") are tokens, or,
// with experts, places in a list of (token, slot) pairs that is sorted by expert and padded so that
// a tile of it belongs to one expert.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quants.h"

namespace ferrum::cuda {

// Tensor-core products with a type take these; X(type).
#define FERRUM_GEMM_FORMATS(X) \
  X(Q4_K) X(Q5_K) X(Q6_K) X(Q8_0) X(Q4_0) X(IQ4_XS) X(MXFP4) X(F16) X(BF16)
// X(type, positions of a tile): the kernels gemm_<type>_<positions>, and the kernels
// gate_up_<type>_<positions>.
#define FERRUM_GEMM_TILES(X, type) X(type, 16) X(type, 32) X(type, 64) X(type, 128)
#define FERRUM_GATE_UP_TILES(X, type) X(type, 16) X(type, 32) X(type, 64)

constexpr int kGemmThreads = 128;
constexpr int kGemmRows = 128;    // that a block multiplies; of gate and up half each
constexpr int kStageValues = 64;  // of k that a stage covers
constexpr int kStageSlices = kStageValues / 16;
constexpr int kStageBytes = 2 * kStageValues;  // of one position

// A list of pairs sorted by expert. Beyond an expert's own pairs its last tile holds `count`.
struct SortedPairs {
  const int32_t* pairs;        // [tiles * tile]; null: position i is row i of x and out
  const int32_t* tile_expert;  // [tiles]
  const int32_t* tile_count;   // [1], as only the device knows it
  int count;                   // of pairs that exist, or of rows of x
};

struct GemmMatrix {
  const uint8_t* data;  // of the first expert, at a multiple of 16
  const uint8_t* end;   // behind the last expert
};

struct GemmArguments {
  GemmMatrix matrices[2];  // one; or gate and up
  size_t matrix_bytes;     // from expert to expert
  size_t row_bytes;
  int rows;
  int stages;         // k / kStageValues, rounded up
  const uint16_t* x;  // float16 [rows of x, stages * kStageValues], zeros beyond k
  int slots;          // row of x = pair / slots; 0: the position
  int tile;           // positions of a tile, at most those of the kernel
  SortedPairs sorted;
  float* out;  // gemm: [pairs, rows], or, where out_by_position, [positions, rows]
  bool out_by_position;
  uint16_t* hidden;  // gate_up: float16 [positions, hidden_stride], zeros beyond rows
  int hidden_stride;
};

constexpr int kRoundThreads = 128;

// float16 [rows, stride] of x [rows, k], within +-65504; zeros beyond k.
struct RoundArguments {
  const float* x;
  uint16_t* out;
  int k, stride;  // multiples of 16 and of 64
};

// Weights are copied to shared memory in chunks: whole blocks of a row and whole stages.
struct WeightChunk {
  int bytes, stages;
  int granule;  // the power of two, at most 16, at whose multiples chunks begin
  int pieces;   // of 16 bytes that a chunk can lie in
  int stride;   // from row to row, an odd count of pieces, so that 8 rows fill all banks
  bool whole;   // every chunk is all there, and whole pieces
};

constexpr WeightChunk weight_chunk(int type) {
  int block = 0, bytes = 0;
  for (const QuantFormat& format : kQuantFormats)
    if (format.id == type) {
      block = static_cast<int>(format.block);
      bytes = static_cast<int>(format.bytes);
    }
  const bool floats = block == 1;
  const int values = block > 128 ? block : floats ? kStageValues : 128;
  WeightChunk chunk{values / block * bytes, values / kStageValues, 16, 0, 0, false};
  while (!floats && bytes % chunk.granule != 0) chunk.granule /= 2;
  chunk.pieces = (chunk.bytes + 16 - chunk.granule + 15) / 16;
  chunk.stride = 16 * (chunk.pieces | 1);
  chunk.whole = values == block && chunk.granule == 16;
  return chunk;
}

// Stages under way at once.
constexpr int gemm_depth(int positions) { return positions <= 32 ? 4 : positions <= 64 ? 3 : 2; }

// Chunks in shared memory: none is overwritten that a stage still reads.
constexpr int chunk_buffers(int type, int positions) {
  const int stages = weight_chunk(type).stages;
  return (gemm_depth(positions) - 1 + stages - 1) / stages + 1;
}

constexpr int activation_bytes(int positions) {
  return gemm_depth(positions) * positions * kStageBytes;
}
constexpr int gemm_shared(int type, int positions) {
  return activation_bytes(positions) +
         chunk_buffers(type, positions) * kGemmRows * weight_chunk(type).stride;
}

}  // namespace ferrum::cuda
