// The gemm of gemm-inl.h for tiles of 8 positions, what an expert has of a small batch.
//
// A weight is used for one operand of 8 positions alone, so what a stage takes is decoding and
// waiting. Both are less here: weights stay integers where their type has Codes, and no barrier
// holds the block's warps together. Each copies its own rows, and takes activations from L1 (all
// blocks of an expert want the same few rows) straight into the operand, a stage ahead.
#pragma once

#include "cuda/kernels/codes.h"
#include "cuda/kernels/gemm-inl.h"

namespace ferrum::cuda {

template <int kType, bool kGateUp>
struct GemmTile8 : GemmBlock<kType, 8, kGateUp> {
  using Block = GemmBlock<kType, 8, kGateUp>;
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = Block::kChunk;
  static constexpr int kAhead = Block::kChunkBuffers - 1;  // chunks

  static_assert(!Codes<kType>::kThere || Codes<kType>::kLineBytes == Block::kPrepared);

  static constexpr bool kWholeChunks = Weights::kBlock == kChunk.stages * kStageValues;

  uint32_t x_at;  // of the lane's position, where the chunk begins, in units of 16 bytes

  FERRUM_DEVICE explicit GemmTile8(const GemmArguments& arguments) : Block(arguments) {}

  FERRUM_DEVICE void find_x() { x_at = this->x_row_of(this->quad) + this->begin * 8; }

  // What the lane multiplies of a chunk's stage `part`: [0] its slice's first run, [1] the second.
  FERRUM_DEVICE void load_x(int part, uint4 (&runs)[2]) const {
    const int slice = part * kStageSlices + this->c;
    const uint4* const block = reinterpret_cast<const uint4*>(this->a.x) + x_at +
                               slice / Weights::kSlices * (Weights::kBlock / 8);
    runs[0] = block[Weights::first(slice % Weights::kSlices) / 8];
    runs[1] = block[Weights::second(slice % Weights::kSlices) / 8];
  }

  FERRUM_DEVICE void copy_chunk(unsigned chunk) {
    if (chunk * kChunk.stages < this->end) this->copy_weights(chunk);
    commit_copies();
  }

  FERRUM_DEVICE void prepare_rows(unsigned chunk) const {
    const int i = lane_index();
    const uint8_t* const block = this->chunk_at(i, chunk) + Block::lead_at(this->lane_byte, chunk);
    if constexpr (Codes<kType>::kThere)
      Codes<kType>::prepare(block, i, this->scales_at(i));
    else
      Halves<kType>::prepare(block, this->scales_at(i));
    __syncwarp();
  }

  // What each of the lane's columns adds up to in both groups of a stage: products with ones.
  static FERRUM_DEVICE void add_columns(const uint32_t (&columns)[4][2], float (&totals)[2][4]) {
    const uint32_t ones[4] = {0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u};
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      multiply_f16(totals[group], ones, columns[2 * group]);
      mma_f16(totals[group], ones, columns[2 * group + 1]);
    }
  }

  // Sums of integers times activations, which scales make sums of weights times activations.
  FERRUM_DEVICE void multiply_codes(unsigned chunk, int part, const uint32_t (&columns)[4][2]) {
    float totals[2][4];
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
                     fmaf(line.term[group], totals[group][i], sum));
        }
      }
    }
  }

  FERRUM_DEVICE void multiply_halves_of(unsigned stage, const uint32_t (&columns)[4][2]) {
    uint32_t operand[2][4][4];
    this->decode(stage, operand);
#pragma unroll
    for (int s = 0; s < 4; ++s)
#pragma unroll
      for (int m = 0; m < 2; ++m) mma_f16(this->sum[m][0], operand[m][s], columns[s]);
  }

  FERRUM_DEVICE void multiply_stage(unsigned chunk, int part, const uint4 (&runs)[2]) {
    const uint32_t columns[4][2] = {{runs[0].x, runs[0].y},
                                    {runs[0].z, runs[0].w},
                                    {runs[1].x, runs[1].y},
                                    {runs[1].z, runs[1].w}};
    if constexpr (Codes<kType>::kThere)
      multiply_codes(chunk, part, columns);
    else
      multiply_halves_of(chunk * kChunk.stages + part, columns);
  }

  // All stages of a chunk, each with the activations that were loaded a stage before.
  FERRUM_DEVICE void multiply_chunk(unsigned chunk, uint4 (&next)[2]) {
    const unsigned first = chunk * kChunk.stages;
#pragma unroll
    for (int part = 0; part < kChunk.stages; ++part) {
      if (!kWholeChunks && first + part >= this->end) return;
      const uint4 runs[2] = {next[0], next[1]};
      const bool last = part + 1 == kChunk.stages;
      if (last) x_at += kChunk.stages * 8;
      if ((kWholeChunks && !last) || first + part + 1 < this->end)
        load_x(last ? 0 : part + 1, next);
      multiply_stage(chunk, part, runs);
    }
  }

  // A chunk is all there once every lane has waited for its copies, and none is overwritten before
  // every lane is done with it: a warp's barrier says both.
  FERRUM_DEVICE void accumulate() {
    unsigned chunk = this->begin / kChunk.stages;
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) copy_chunk(chunk + ahead);
    uint4 next[2];
    load_x(0, next);
#pragma unroll 1
    for (; chunk * kChunk.stages < this->end; ++chunk) {
      wait_for_copies<kAhead - 1>();
      __syncwarp();
      copy_chunk(chunk + kAhead);
      prepare_rows(chunk);
      multiply_chunk(chunk, next);
    }
  }

  FERRUM_DEVICE void run() {
    if (!this->has_work()) return;
    this->find_rows();
    find_x();
    accumulate();
    if constexpr (kGateUp)
      this->store_hidden();
    else
      this->store();
  }
};

}  // namespace ferrum::cuda
