// The gemm for tokens that are few beside what a GPU could multiply: what a decode step of a small
// batch has, in tiles of 8, 16 or 32.
//
// Blocks of 128 rows would leave most of the GPU idle, and k split over blocks costs counters, all
// sums' way through memory, and a launch to round activations and clear the counters. So a block
// has 32 or 64 rows, the warps that share 32 of them divide k among themselves, and their sums meet
// in shared memory, in the order of k. Activations are rounded to float16 on their way to the
// operand; or before, where they are read again and again (ops/gemm_few.cc).
#pragma once

#include "cuda/kernels/gemm_warps-inl.h"
#include "cuda/kernels/prefetch-inl.h"
#include "cuda/kernels/round_row-inl.h"

namespace ferrum::cuda {

// Operands of 8 columns that are loaded side by side; registers bound them.
constexpr int few_at_once(int positions) { return positions == 8 ? 1 : 2; }

template <int kType, int kPositions, int kAtOnce = few_at_once(kPositions),
          bool kLoadsAhead = few_loads_ahead(kType, kPositions)>
struct GemmFew : GemmWarps<kType, kPositions, false, few_splits(kPositions), few_buffers(kType)> {
  static constexpr int kSplits = few_splits(kPositions);
  using Warps = GemmWarps<kType, kPositions, false, kSplits, few_buffers(kType)>;
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = Warps::kChunk;
  static constexpr int kRows = Warps::kRows, kColumns = Warps::kColumns;
  static constexpr bool kTakesRounded = few_takes_rounded(kType, kPositions);
  static_assert(!kLoadsAhead || kColumns == kAtOnce);
  // Of a column's sums: stores of a warp fill all banks.
  static constexpr int kColumnFloats = 36, kWarpFloats = kPositions * kColumnFloats;
  static_assert(4 * kWarpFloats * kFewWarps <= few_shared(kType));

  const int tokens;      // from the tile's first on
  uint32_t x[kColumns];  // where the rows of the lane's positions begin

  FERRUM_DEVICE explicit GemmFew(const GemmArguments& arguments)
      : Warps(arguments), tokens(arguments.sorted.count - first_token()) {
    const unsigned chunks = (this->a.stages + kChunk.stages - 1) / kChunk.stages;
    const unsigned each = (chunks + kSplits - 1) / kSplits * kChunk.stages;
    this->begin = static_cast<unsigned>(warp_index() % kSplits) * each;
    this->end = min(this->begin + each, static_cast<unsigned>(this->a.stages));
  }

  static FERRUM_DEVICE int first_token() { return static_cast<int>(blockIdx.x) * kPositions; }

  // Runs of columns on their way, and as operands take them. All of a type, or a choice of the type
  // at each would have them wait for one another.
  template <int kValues>
  using Loaded = Eight<kValues>[kAtOnce][2];
  using Columns = uint4[kAtOnce][2];

  // Columns first .. of a stage, of the lane's slice there; zeros beyond k.
  template <int kValues>
  FERRUM_DEVICE void load(int first, unsigned stage, Loaded<kValues>& values) const {
    const unsigned slice = stage * kStageSlices + static_cast<unsigned>(this->c);
    const int in_block = static_cast<int>(slice % Weights::kSlices);
    const int block = static_cast<int>(slice / Weights::kSlices) * Weights::kBlock;
    const int runs[2] = {block + Weights::first(in_block), block + Weights::second(in_block)};
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n)
#pragma unroll
      for (int run = 0; run < 2; ++run) {
        values[n][run] = {};
        if (Warps::kWholeChunks || runs[run] < this->a.k)
          values[n][run].load(this->a.values.data, x[first + n] + static_cast<uint32_t>(runs[run]));
      }
  }
  template <int kValues>
  static FERRUM_DEVICE void round(const Loaded<kValues>& values, Columns& columns) {
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n)
#pragma unroll
      for (int run = 0; run < 2; ++run) columns[n][run] = values[n][run].halves();
  }
  FERRUM_DEVICE void load_and_round(int first, unsigned stage, Columns& columns) const {
    with_element_type(this->a.values.type, [&](auto type) {
      constexpr int kValues = decltype(type)::value;
      Loaded<kValues> values;
      load<kValues>(first, stage, values);
      round<kValues>(values, columns);
    });
  }

  // Columns first .. times what decode makes of a stage.
  FERRUM_DEVICE void multiply(const uint32_t (&operand)[2][4][4], const Columns& columns,
                              int first) {
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n)
      this->multiply_column(first + n, operand, columns[n][0], columns[n][1]);
  }

  // The next stage's columns are on their way while a stage is decoded and multiplied, and the
  // first stage's while its weights are. Rounded before, they take half the registers: then those
  // of two.
  template <int kValues>
  FERRUM_DEVICE void multiply_ahead() {
    constexpr int kAhead = kValues == kRounded && kChunk.stages % 2 == 0 ? 2 : 1;
    Loaded<kValues> next[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (this->begin + i < this->end) load<kValues>(0, this->begin + i, next[i]);
    this->for_each_chunk([&](unsigned chunk) {
      const unsigned begin = chunk * kChunk.stages;
      this->prepare_chunk(chunk);
#pragma unroll 1  // for registers
      for (int first = 0; first < kChunk.stages; first += kAhead)
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          const unsigned stage = begin + first + i;
          if (!this->has_stage(stage)) return;
          Columns columns;
          round<kValues>(next[i], columns);
          if (stage + kAhead < this->end) load<kValues>(0, stage + kAhead, next[i]);
          uint32_t operand[2][4][4];
          this->decode(chunk, static_cast<unsigned>(first + i), operand);
          multiply(operand, columns, 0);
        }
    });
  }
  // Without registers for that.
  FERRUM_DEVICE void multiply_in_turn(unsigned chunk) {
    const unsigned begin = chunk * kChunk.stages;
    this->prepare_chunk(chunk);
#pragma unroll 1
    for (int part = 0; part < kChunk.stages; ++part) {
      if (!this->has_stage(begin + part)) return;
      Columns columns;
      load_and_round(0, begin + part, columns);
      uint32_t operand[2][4][4];
      this->decode(chunk, static_cast<unsigned>(part), operand);
#pragma unroll
      for (int first = 0; first < kColumns; first += kAtOnce) {
        if (first > 0) load_and_round(first, begin + part, columns);
        multiply(operand, columns, first);
      }
    }
  }

  FERRUM_DEVICE void multiply_unless_rounded() {
    if constexpr (kTakesRounded)
      if (this->a.values.type == kRounded) {
        multiply_ahead<kRounded>();
        return;
      }
    this->for_each_chunk([this](unsigned chunk) { multiply_in_turn(chunk); });
  }

  // The warps' sums, added up in the order of k.
  FERRUM_DEVICE void add_up_and_store() {
    auto* const sums = reinterpret_cast<float*>(this->chunks);
    __syncthreads();  // nobody needs its chunks any more
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sums[warp_index() * kWarpFloats + (8 * n + 2 * this->c + i) * kColumnFloats + this->quad +
               8 * j] = this->sum[j / 2][n][j % 2 * 2 + i];
    __syncthreads();
    const int row = static_cast<int>(threadIdx.x) % kRows, place = this->row_block * kRows + row;
    if (place >= this->rows()) return;
    const float* const of_row = sums + row / 32 * (kSplits * kWarpFloats) + row % 32;
    for (int token = static_cast<int>(threadIdx.x) / kRows; token < min(tokens, kPositions);
         token += kFewThreads / kRows) {
      float total = 0.0f;
#pragma unroll
      for (int split = 0; split < kSplits; ++split)
        total += of_row[split * kWarpFloats + token * kColumnFloats];
      store_element({this->matrix(0).out, this->a.out_type},
                    static_cast<size_t>(first_token() + token) * this->rows() + place, total);
    }
  }

  template <class Body>
  FERRUM_DEVICE void with_values_type(const Body& body) const {
    if constexpr (kTakesRounded) {
      if (this->a.values.type == kRounded) {
        body(ElementType<kRounded>());
        return;
      }
    }
    with_element_type(this->a.values.type, body);
  }

  FERRUM_DEVICE void prefetch() const {
    prefetch_rows<kType>(this->matrix(0).data, this->rows(), this->a.row_bytes,
                         this->row_block * kRows, kRows);
  }

  FERRUM_DEVICE void run() {
    this->find_rows(0);
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
      x[n] = static_cast<uint32_t>(first_token() + min(8 * n + this->quad, tokens - 1)) *
             static_cast<uint32_t>(this->a.k);
    if constexpr (kLoadsAhead)
      with_values_type([this](auto type) { multiply_ahead<decltype(type)::value>(); });
    else
      multiply_unless_rounded();
    add_up_and_store();
  }
};

}  // namespace ferrum::cuda
