// The gemm for tiles of 8 positions: what an expert has of a small batch. Activations are copied a
// chunk at a time, as weights are, for all warps of a block: taken by each from L1 and L2, they
// were nearly half of what L2 gave, and L2 was what held the kernel.
#pragma once

#include "cuda/kernels/gemm_warps-inl.h"

namespace ferrum::cuda {

template <int kType, bool kGateUp>
struct GemmTile8 : GemmWarps<kType, 8, kGateUp, 1, chunk_buffers(kType, 8)> {
  using Warps = GemmWarps<kType, 8, kGateUp, 1, chunk_buffers(kType, 8)>;
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = Warps::kChunk;
  static constexpr int kBuffers = chunk_buffers(kType, 8), kStage = 8 * kStageBytes;

  uint32_t x_row;  // of the position that the thread copies, in units of 16 bytes

  FERRUM_DEVICE explicit GemmTile8(const GemmArguments& arguments) : Warps(arguments) {}

  // Those of the chunk's stage `part`.
  FERRUM_DEVICE uint8_t* activations_at(unsigned chunk, int part) const {
    return this->activations + chunk % kBuffers * (kChunk.stages * kStage) + part * kStage;
  }

  // 64 threads have a piece each of a stage. A chunk's blocks are whole, so that where its pieces
  // lie from its beginning on is the same for all.
  FERRUM_DEVICE void copy_activations(unsigned chunk) const {
    const unsigned thread = threadIdx.x, piece = thread % 8, later = thread / 64 % 2;
    const uint16_t* const from = this->a.x + 8 * (size_t{x_row} + chunk * (kChunk.stages * 8));
    uint8_t* const to = activations_at(chunk, 0) + this->place(thread / 8 % 8, piece);
#pragma unroll
    for (int first = 0; first < kChunk.stages; first += 2) {
      const unsigned part = first + later;
      if (kChunk.stages % 2 != 0 && part >= kChunk.stages) continue;
      if (Warps::kWholeChunks || chunk * kChunk.stages + part < this->end)
        copy_16(to + part * kStage, from + 8 * this->piece_of_row(part, piece));
    }
  }

  // In the order of gemm-inl.h's multiply: a sum's bits do not depend on the size of its tile.
  FERRUM_DEVICE void multiply_chunk(unsigned chunk) {
    this->prepare_chunk(chunk);
#pragma unroll
    for (int part = 0; part < kChunk.stages; ++part) {
      const unsigned stage = chunk * kChunk.stages + part;
      if (!Warps::kWholeChunks && stage >= this->end) return;
      uint32_t operand[2][4][4];
      this->decode(chunk, static_cast<unsigned>(part), operand);
      this->multiply_from(activations_at(chunk, part), operand);
    }
  }

  FERRUM_DEVICE void run() {
    const int expert = this->find_expert();
    x_row = this->x_row_of(static_cast<int>(threadIdx.x) / 8 % 8);
    if (expert < 0) return;
    this->find_rows(expert);
    const auto copy = [this](unsigned chunk) {
      copy_activations(chunk);
      this->copy_weights(chunk);
    };
    this->for_each_chunk(
        copy, [] { __syncthreads(); }, [this](unsigned chunk) { multiply_chunk(chunk); });
    if constexpr (kGateUp)
      this->store_hidden();
    else
      this->template store_as<kF32>();
  }
};

}  // namespace ferrum::cuda
