// The gemm of gemm-inl.h where a weight meets one or two operands of 8 positions, so that what a
// stage takes is decoding and waiting. Both are less here: weights stay integers where their type
// has Codes, and no barrier holds a block's warps together. Each copies the rows it multiplies, and
// takes activations from L1 and L2 straight into the operand.
//
// The parts that differ are the subclasses' (gemm_tile8-inl.h, gemm_few-inl.h).
#pragma once

#include "cuda/kernels/codes.h"
#include "cuda/kernels/gemm-inl.h"

namespace ferrum::cuda {

template <int kType, int kPositions, bool kGateUp, int kSplits, int kBuffers>
struct GemmWarps : GemmBlock<kType, kPositions, kGateUp, kSplits, kBuffers> {
  using Block = GemmBlock<kType, kPositions, kGateUp, kSplits, kBuffers>;
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = Block::kChunk;
  static constexpr int kColumns = Block::kColumns;
  // A chunk is one block, and all of its stages are there.
  static constexpr bool kWholeChunks = Weights::kBlock == kChunk.stages * kStageValues;
  static constexpr bool kCodes = Block::kCodes && Codes<kType>::kThere;
  static_assert(!kCodes || Codes<kType>::kLineBytes == Block::kPrepared);

  // Operands of one stage: of column n its first run, then its second.
  using Columns = uint32_t[kColumns][4][2];

  FERRUM_DEVICE explicit GemmWarps(const GemmArguments& arguments) : Block(arguments) {}

  FERRUM_DEVICE bool exists(unsigned chunk) const { return chunk * kChunk.stages < this->end; }

  FERRUM_DEVICE void copy_chunk(unsigned chunk) {
    if (exists(chunk)) this->copy_weights(chunk);
    commit_copies();
  }

  FERRUM_DEVICE void prepare_rows(unsigned chunk) const {
    if constexpr (kCodes) {
      const int i = lane_index();
      Codes<kType>::prepare(this->chunk_at(i, chunk), i, this->scales_at(i));
      __syncwarp();
    } else {
      this->prepare_chunk(chunk);
    }
  }

  // What the lane's columns add up to in both groups of a stage: products with ones.
  static FERRUM_DEVICE void add_columns(const Columns& columns, float (&totals)[kColumns][2][2]) {
    const uint32_t ones[4] = {0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u};
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
      for (int group = 0; group < 2; ++group) {
        float sum[4];  // every row has the same
        multiply_f16(sum, ones, columns[n][2 * group]);
        mma_f16(sum, ones, columns[n][2 * group + 1]);
        totals[n][group][0] = sum[0], totals[n][group][1] = sum[1];
      }
  }

  // Sums of integers times activations, which scales make sums of weights times activations.
  FERRUM_DEVICE void multiply_codes(unsigned chunk, int part, const Columns& columns) {
    float totals[kColumns][2][2];
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
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
          float product[4];
          multiply_f16(product, rows[0], columns[n][2 * group]);
          mma_f16(product, rows[1], columns[n][2 * group + 1]);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const GroupLines& line = lines[i / 2];
            float& sum = this->sum[m][n][i];
            sum = fmaf(line.factor[group], product[i],
                       fmaf(line.term[group], totals[n][group][i % 2], sum));
          }
        }
      }
    }
  }

  // Of columns first .. with what decode makes of a stage.
  template <int kCount>
  FERRUM_DEVICE void multiply_columns(const uint32_t (&operand)[2][4][4],
                                      const uint32_t (&columns)[kCount][4][2], int first) {
#pragma unroll
    for (int n = 0; n < kCount; ++n)
#pragma unroll
      for (int s = 0; s < 4; ++s)
#pragma unroll
        for (int m = 0; m < 2; ++m) mma_f16(this->sum[m][first + n], operand[m][s], columns[n][s]);
  }

  FERRUM_DEVICE void multiply_stage(unsigned chunk, int part, const Columns& columns) {
    if constexpr (kCodes) {
      multiply_codes(chunk, part, columns);
    } else {
      uint32_t operand[2][4][4];
      this->decode(chunk, static_cast<unsigned>(part), operand);
      multiply_columns(operand, columns, 0);
    }
  }

  // A chunk is all there once every lane has waited for its copies, and none is overwritten before
  // every lane is done with it: a warp's barrier says both. `multiply` does all of a chunk.
  template <class Multiply>
  FERRUM_DEVICE void for_each_chunk(const Multiply& multiply) {
    constexpr int kAhead = kBuffers - 1;
    unsigned chunk = this->begin / kChunk.stages;
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) copy_chunk(chunk + ahead);
#pragma unroll 1
    for (; exists(chunk); ++chunk) {
      if constexpr (kAhead > 0) wait_for_copies<kAhead - 1>();
      __syncwarp();
      copy_chunk(chunk + kAhead);
      if constexpr (kAhead == 0) {
        wait_for_copies<0>();
        __syncwarp();
      }
      prepare_rows(chunk);
      multiply(chunk);
    }
  }
};

}  // namespace ferrum::cuda
