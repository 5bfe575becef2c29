// What the last lane to arrive computes for all.
#include "cuda/on_cpu/warp.h"

#include <cstring>

#include "cuda/on_cpu/arithmetic.h"
#include "cuda/on_cpu/kernel.h"
#include "cuda/on_cpu/multiprocessor.h"
#include "error.h"

namespace ferrum::cuda::on_cpu {
namespace {

constexpr int kLanes = 32;

void shuffle_all(const WarpFunction& self, void* const* lanes, uint32_t mask) {
  uint64_t values[kLanes];
  for (int i = 0; i < kLanes; ++i)
    if (mask >> i & 1) values[i] = static_cast<Shuffle*>(lanes[i])->value;
  for (int i = 0; i < kLanes; ++i) {
    if (!(mask >> i & 1)) continue;
    Shuffle& shuffle = *static_cast<Shuffle*>(lanes[i]);
    if (!(mask >> shuffle.source & 1))
      stop(text("at ", self.name, ", where lane ", i, " asks for lane ", shuffle.source,
                ", which is not in the mask"));
    shuffle.value = values[shuffle.source];
  }
}

void vote_all(const WarpFunction&, void* const* lanes, uint32_t mask) {
  uint32_t ballot = 0;
  for (int i = 0; i < kLanes; ++i)
    if (mask >> i & 1 && static_cast<Vote*>(lanes[i])->predicate) ballot |= 1u << i;
  for (int i = 0; i < kLanes; ++i)
    if (mask >> i & 1) static_cast<Vote*>(lanes[i])->ballot = ballot;
}

// As half_to_float, without a branch, so that the compiler converts several at once.
void convert(const uint16_t* halves, int count, float* out) {
  for (int i = 0; i < count; ++i) {
    const uint32_t sign = (halves[i] & 0x8000u) << 16, magnitude = halves[i] & 0x7fffu;
    const uint32_t finite = float_to_bits(bits_to_float(magnitude << 13) * 0x1p112f);
    out[i] = bits_to_float(sign | finite | (magnitude >= 0x7c00 ? 0x7f800000 : 0));
  }
}

// Register r of lane i holds two neighbours of row i / 4 (+ 8 for odd r), columns 2 (i % 4) (+ 8
// from r = 2).
void gather_a(void* const* lanes, float (&a)[16][16]) {
  uint16_t halves[16][16];
  for (int i = 0; i < kLanes; ++i)
    for (int r = 0; r < 4; ++r)
      memcpy(&halves[i / 4 + r % 2 * 8][i % 4 * 2 + r / 2 * 8],
             &static_cast<MatrixProduct*>(lanes[i])->a[r], 4);
  convert(halves[0], 256, a[0]);
}

// Here, of column i / 4, rows 2 (i % 4) (+ 8 for r = 1).
void gather_b(void* const* lanes, float (&b)[16][8]) {
  uint16_t halves[16][8];
  for (int i = 0; i < kLanes; ++i)
    for (int r = 0; r < 2; ++r) {
      const uint32_t pair = static_cast<MatrixProduct*>(lanes[i])->b[r];
      const int row = i % 4 * 2 + r * 8;
      halves[row][i / 4] = static_cast<uint16_t>(pair);
      halves[row + 1][i / 4] = static_cast<uint16_t>(pair >> 16);
    }
  convert(halves[0], 128, b[0]);
}

void multiply_all(const WarpFunction&, void* const* lanes, uint32_t) {
  float a[16][16], b[16][8], sums[16][8] = {};
  gather_a(lanes, a);
  gather_b(lanes, b);
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < 8; ++column) sums[row][column] += a[row][k] * b[k][column];
  for (int i = 0; i < kLanes; ++i)
    for (int r = 0; r < 4; ++r)
      static_cast<MatrixProduct*>(lanes[i])->d[r] += sums[i / 4 + r / 2 * 8][i % 4 * 2 + r % 2];
}

// The four matrices as their rows lie in shared memory.
void read_rows(const WarpFunction& self, void* const* lanes, uint16_t (&rows)[kLanes][8]) {
  for (int i = 0; i < kLanes; ++i) {
    const void* const row = static_cast<MatrixLoad*>(lanes[i])->row;
    expect_aligned_16(self.name, row);
    memcpy(rows[i], row, sizeof rows[i]);
  }
}

void load_all(const WarpFunction& self, void* const* lanes, uint32_t) {
  uint16_t rows[kLanes][8];
  read_rows(self, lanes, rows);
  for (int i = 0; i < kLanes; ++i)
    for (int m = 0; m < 4; ++m)
      memcpy(&static_cast<MatrixLoad*>(lanes[i])->r[m], &rows[8 * m + i / 4][i % 4 * 2], 4);
}

void load_all_transposed(const WarpFunction& self, void* const* lanes, uint32_t) {
  uint16_t rows[kLanes][8];
  read_rows(self, lanes, rows);
  for (int i = 0; i < kLanes; ++i)
    for (int m = 0; m < 4; ++m) {
      const uint32_t first = rows[8 * m + i % 4 * 2][i / 4];
      const uint32_t second = rows[8 * m + i % 4 * 2 + 1][i / 4];
      static_cast<MatrixLoad*>(lanes[i])->r[m] = first | second << 16;
    }
}

}  // namespace

const WarpFunction kShuffle{"__shfl_sync", shuffle_all};
const WarpFunction kShuffleUp{"__shfl_up_sync", shuffle_all};
const WarpFunction kShuffleDown{"__shfl_down_sync", shuffle_all};
const WarpFunction kShuffleXor{"__shfl_xor_sync", shuffle_all};
const WarpFunction kBallot{"__ballot_sync", vote_all};
const WarpFunction kAny{"__any_sync", vote_all};
const WarpFunction kAll{"__all_sync", vote_all};
const WarpFunction kSyncWarp{"__syncwarp", nullptr};
const WarpFunction kMatrixProduct{"mma_f16", multiply_all};
const WarpFunction kMatrixLoad{"load_matrices", load_all};
const WarpFunction kMatrixLoadTransposed{"load_matrices_transposed", load_all_transposed};

}  // namespace ferrum::cuda::on_cpu
