// The gemm for at most 16 tokens, what a decode step of a small batch has.
//
// Blocks of 128 rows would leave most of the GPU idle, and k split over blocks costs counters, all
// sums' way through memory, and a launch to round activations and clear the counters. So a block
// has 32 rows, its warps divide k among themselves, and their sums meet in shared memory, in the
// order of k. Activations are rounded to float16 on their way to the operand.
#pragma once

#include "cuda/kernels/gemm_warps-inl.h"
#include "cuda/kernels/prefetch-inl.h"
#include "cuda/kernels/round_row-inl.h"

namespace ferrum::cuda {

template <int kType>
struct GemmFew : GemmWarps<kType, 16, false, kFewWarps, few_buffers(kType)> {
  using Warps = GemmWarps<kType, 16, false, kFewWarps, few_buffers(kType)>;
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = Warps::kChunk;
  static constexpr int kRows = 32;
  static constexpr int kColumnFloats = 36;  // of a column's sums: stores of a warp fill all banks

  size_t x[2];  // where the rows of the lane's positions begin

  FERRUM_DEVICE explicit GemmFew(const GemmArguments& arguments) : Warps(arguments) {
    const unsigned chunks = (this->a.stages + kChunk.stages - 1) / kChunk.stages;
    const unsigned each = (chunks + kFewWarps - 1) / kFewWarps * kChunk.stages;
    this->begin = static_cast<unsigned>(warp_index()) * each;
    this->end = min(this->begin + each, static_cast<unsigned>(this->a.stages));
  }

  FERRUM_DEVICE void multiply_chunk(unsigned chunk) {
#pragma unroll 1  // for registers
    for (int part = 0; part < kChunk.stages; ++part) {
      const unsigned stage = chunk * kChunk.stages + part;
      if (!Warps::kWholeChunks && stage >= this->end) return;
      const unsigned slice = stage * kStageSlices + static_cast<unsigned>(this->c);
      const int in_block = static_cast<int>(slice % Weights::kSlices);
      const int block = static_cast<int>(slice / Weights::kSlices) * Weights::kBlock;
      const int runs[2] = {block + Weights::first(in_block), block + Weights::second(in_block)};
      uint32_t columns[2][4][2];
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int run = 0; run < 2; ++run) {
          uint4 v = make_uint4(0, 0, 0, 0);  // beyond k
          if (Warps::kWholeChunks || runs[run] < this->a.k)
            v = paired_halves(this->a.values, x[n] + runs[run]);
          columns[n][2 * run][0] = v.x, columns[n][2 * run][1] = v.y;
          columns[n][2 * run + 1][0] = v.z, columns[n][2 * run + 1][1] = v.w;
        }
      this->multiply_stage(chunk, part, columns);
    }
  }

  // The warps' sums, added up in the order of k.
  FERRUM_DEVICE void add_up_and_store() {
    constexpr int kWarpFloats = 16 * kColumnFloats;
    auto* const sums = reinterpret_cast<float*>(this->chunks);
    __syncthreads();  // nobody needs its chunks any more
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sums[warp_index() * kWarpFloats + (8 * n + 2 * this->c + i) * kColumnFloats + this->quad +
               8 * j] = this->sum[j / 2][n][j % 2 * 2 + i];
    __syncthreads();
    const int row = static_cast<int>(threadIdx.x) % kRows, place = this->place_of_row(row);
    if (place >= this->rows()) return;
    for (int token = warp_index(); token < this->a.sorted.count; token += kFewWarps) {
      float total = 0.0f;
#pragma unroll
      for (int warp = 0; warp < kFewWarps; ++warp)
        total += sums[warp * kWarpFloats + token * kColumnFloats + row];
      store_element({this->matrix(0).out, this->a.out_type},
                    static_cast<size_t>(token) * this->rows() + place, total);
    }
  }

  FERRUM_DEVICE void prefetch() const {
    prefetch_rows<kType>(this->matrix(0).data, this->rows(), this->a.row_bytes,
                         this->row_block * kRows, kRows);
  }

  FERRUM_DEVICE void run() {
    this->find_rows(0);
#pragma unroll
    for (int n = 0; n < 2; ++n)
      x[n] = static_cast<size_t>(min(8 * n + this->quad, this->a.sorted.count - 1)) * this->a.k;
    this->for_each_chunk([this](unsigned chunk) { multiply_chunk(chunk); });
    add_up_and_store();
  }
};

}  // namespace ferrum::cuda
