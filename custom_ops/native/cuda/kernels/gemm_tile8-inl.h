// The gemm for tiles of 8 positions: what an expert has of a small batch. All blocks of an expert
// want the same few rows of activations, so L1 has them. Weights stay integers where their type has
// Codes, and their scales meet the sums.
#pragma once

#include "cuda/kernels/codes.h"
#include "cuda/kernels/gemm_warps-inl.h"

namespace ferrum::cuda {

template <int kType, bool kGateUp>
struct GemmTile8 : GemmWarps<kType, 8, kGateUp, 1, chunk_buffers(kType, 8)> {
  using Warps = GemmWarps<kType, 8, kGateUp, 1, chunk_buffers(kType, 8)>;
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = Warps::kChunk;
  static constexpr bool kCodes = Codes<kType>::kThere;
  static_assert(!kCodes || Codes<kType>::kLineBytes == Warps::kPrepared);
  // Operands of one stage: its first run, then its second.
  using Columns = uint32_t[4][2];

  uint32_t x_at;  // of the lane's position, where the chunk begins, in units of 16 bytes

  FERRUM_DEVICE explicit GemmTile8(const GemmArguments& arguments) : Warps(arguments) {}

  // The lane's runs of a chunk's stage `part`.
  FERRUM_DEVICE void load(int part, uint4 (&runs)[2]) const {
    const int slice = part * kStageSlices + this->c;
    const uint4* const block = reinterpret_cast<const uint4*>(this->a.x) + x_at +
                               slice / Weights::kSlices * (Weights::kBlock / 8);
    runs[0] = block[Weights::first(slice % Weights::kSlices) / 8];
    runs[1] = block[Weights::second(slice % Weights::kSlices) / 8];
  }

  FERRUM_DEVICE void prepare(unsigned chunk) const {
    if constexpr (kCodes) {
      const int i = lane_index();
      Codes<kType>::prepare(this->chunk_at(i, chunk), i, this->scales_at(i));
      __syncwarp();
    } else {
      this->prepare_chunk(chunk);
    }
  }

  // What the lane's columns add up to in both groups of a stage: products with ones.
  static FERRUM_DEVICE void add_columns(const Columns& columns, float (&totals)[2][2]) {
    const uint32_t ones[4] = {0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u};
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      float sum[4];  // every row has the same
      multiply_f16(sum, ones, columns[2 * group]);
      mma_f16(sum, ones, columns[2 * group + 1]);
      totals[group][0] = sum[0], totals[group][1] = sum[1];
    }
  }

  // Sums of integers times activations, which scales make sums of weights times activations.
  FERRUM_DEVICE void multiply_codes(unsigned chunk, int part, const Columns& columns) {
    float totals[2][2];
    add_columns(columns, totals);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      uint32_t pairs[2][8];  // of the lane's upper row and the lower
      GroupLines lines[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = this->quad + 8 * (2 * m + half);
        Codes<kType>::unpack(this->chunk_at(row, chunk), 4 * part + this->c, pairs[half]);
        lines[half] = Codes<kType>::lines(this->scales_at(row), this->quad, part);
      }
#pragma unroll
      for (int group = 0; group < 2; ++group) {
        uint32_t rows[2][4];
#pragma unroll
        for (int s = 0; s < 2; ++s)
#pragma unroll
          for (int i = 0; i < 4; ++i) rows[s][i] = pairs[i % 2][2 * (2 * group + s) + i / 2];
        float product[4];
        multiply_f16(product, rows[0], columns[2 * group]);
        mma_f16(product, rows[1], columns[2 * group + 1]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const GroupLines& line = lines[i / 2];
          float& sum = this->sum[m][0][i];
          sum = fmaf(line.factor[group], product[i],
                     fmaf(line.term[group], totals[group][i % 2], sum));
        }
      }
    }
  }

  FERRUM_DEVICE void multiply_stage(unsigned chunk, int part, const Columns& columns) {
    if constexpr (kCodes) {
      multiply_codes(chunk, part, columns);
    } else {
      uint32_t operand[2][4][4];
      this->decode(chunk, static_cast<unsigned>(part), operand);
#pragma unroll
      for (int s = 0; s < 4; ++s)
#pragma unroll
        for (int m = 0; m < 2; ++m) mma_f16(this->sum[m][0], operand[m][s], columns[s]);
    }
  }

  // `next`: of the stage that comes next, which were loaded a stage before.
  FERRUM_DEVICE void multiply_chunk(unsigned chunk, uint4 (&next)[2]) {
    prepare(chunk);
    const unsigned first = chunk * kChunk.stages;
#pragma unroll
    for (int part = 0; part < kChunk.stages; ++part) {
      if (!Warps::kWholeChunks && first + part >= this->end) return;
      const Columns columns = {{next[0].x, next[0].y},
                               {next[0].z, next[0].w},
                               {next[1].x, next[1].y},
                               {next[1].z, next[1].w}};
      const bool last = part + 1 == kChunk.stages;
      if (last) x_at += kChunk.stages * 8;
      if ((Warps::kWholeChunks && !last) || first + part + 1 < this->end)
        load(last ? 0 : part + 1, next);
      multiply_stage(chunk, part, columns);
    }
  }

  FERRUM_DEVICE void run() {
    const int expert = this->find_expert();
    x_at = this->x_row_of(this->quad);
    if (expert < 0) return;
    this->find_rows(expert);
    uint4 next[2];
    load(0, next);
    this->for_each_chunk([&](unsigned chunk) { multiply_chunk(chunk, next); });
    if constexpr (kGateUp)
      this->store_hidden();
    else
      this->template store_as<kF32>();
  }
};

}  // namespace ferrum::cuda
