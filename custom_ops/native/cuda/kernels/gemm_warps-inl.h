// The gemm of gemm-inl.h where a weight meets few operands of 8 positions, so that what a stage
// takes is decoding and waiting. Waiting is less here: weights and what else belongs to them are
// waited for once a chunk, and not once a stage.
//
// The parts that differ are the subclasses' (gemm_tile8-inl.h, gemm_few-inl.h).
#pragma once

#include "cuda/kernels/gemm-inl.h"

namespace ferrum::cuda {

template <int kType, int kPositions, bool kGateUp, int kSplits, int kBuffers>
struct GemmWarps : GemmBlock<kType, kPositions, kGateUp, kSplits, kBuffers> {
  using Block = GemmBlock<kType, kPositions, kGateUp, kSplits, kBuffers>;
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = Block::kChunk;
  // A chunk is one block, and all of its stages are there.
  static constexpr bool kWholeChunks = Weights::kBlock == kChunk.stages * kStageValues;

  FERRUM_DEVICE explicit GemmWarps(const GemmArguments& arguments) : Block(arguments) {}

  FERRUM_DEVICE bool exists(unsigned chunk) const { return chunk * kChunk.stages < this->end; }

  // A chunk is all there once all who copy it have waited for their copies, and none is overwritten
  // before all who read it are done: `meet`, their barrier, says both. `copy` begins to copy a
  // chunk, `multiply` does all of it.
  template <class Copy, class Meet, class Multiply>
  FERRUM_DEVICE void for_each_chunk(const Copy& copy, const Meet& meet, const Multiply& multiply) {
    constexpr int kAhead = kBuffers - 1;
    const auto copy_chunk = [&](unsigned chunk) {
      if (exists(chunk)) copy(chunk);
      commit_copies();
    };
    unsigned chunk = this->begin / kChunk.stages;
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) copy_chunk(chunk + ahead);
#pragma unroll 1
    for (; exists(chunk); ++chunk) {
      if constexpr (kAhead > 0) wait_for_copies<kAhead - 1>();
      meet();
      copy_chunk(chunk + kAhead);
      if constexpr (kAhead == 0) {
        wait_for_copies<0>();
        meet();
      }
      multiply(chunk);
    }
  }
};

}  // namespace ferrum::cuda
