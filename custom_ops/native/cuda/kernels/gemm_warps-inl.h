// The gemm of gemm-inl.h where a weight meets few operands of 8 positions, so that what a stage
// takes is decoding and waiting. Waiting is less here, for no barrier holds a block's warps
// together: each copies the rows it multiplies, and takes activations from L1 and L2 straight into
// the operand.
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
  static constexpr bool kWholeChunks = Block::kWholeChunks;

  FERRUM_DEVICE explicit GemmWarps(const GemmArguments& arguments) : Block(arguments) {}

  FERRUM_DEVICE bool exists(unsigned chunk) const { return chunk * kChunk.stages < this->end; }
  // Whether a stage of a chunk that exists does.
  FERRUM_DEVICE bool has_stage(unsigned stage) const { return kWholeChunks || stage < this->end; }

  FERRUM_DEVICE void copy_chunk(unsigned chunk) {
    if (exists(chunk)) this->copy_weights(chunk);
    commit_copies();
  }

  // A chunk is all there once every lane has waited for its copies, and none is overwritten before
  // every lane is done with it: a warp's barrier says both. `multiply` does all of a chunk;
  // `before_copies` comes before it, and before the copies that are asked for meanwhile.
  template <class Multiply>
  FERRUM_DEVICE void for_each_chunk(const Multiply& multiply) {
    for_each_chunk([](unsigned) {}, multiply);
  }
  template <class BeforeCopies, class Multiply>
  FERRUM_DEVICE void for_each_chunk(const BeforeCopies& before_copies, const Multiply& multiply) {
    constexpr int kAhead = kBuffers - 1;
    unsigned chunk = this->begin / kChunk.stages;
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) copy_chunk(chunk + ahead);
#pragma unroll 1
    for (; exists(chunk); ++chunk) {
      if constexpr (kAhead > 0) wait_for_copies<kAhead - 1>();
      __syncwarp();
      before_copies(chunk);
      copy_chunk(chunk + kAhead);
      if constexpr (kAhead == 0) {
        wait_for_copies<0>();
        __syncwarp();
      }
      multiply(chunk);
    }
  }
};

}  // namespace ferrum::cuda
