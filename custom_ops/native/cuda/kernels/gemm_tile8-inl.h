// The gemm for tiles of 8 positions: what an expert has of a small batch. Each warp takes
// activations for itself, mostly from L2: copied to shared memory for all warps of a block, with a
// barrier for every chunk of weights, they cost 8 % of a step at batch 16 (H200).
#pragma once

#include "cuda/kernels/gemm_warps-inl.h"
#include "cuda/kernels/prefetch-inl.h"

namespace ferrum::cuda {

template <int kType, bool kGateUp>
struct GemmTile8 : GemmWarps<kType, 8, kGateUp, 1, chunk_buffers(kType, 8)> {
  using Warps = GemmWarps<kType, 8, kGateUp, 1, chunk_buffers(kType, 8)>;
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = Warps::kChunk;
  uint32_t x_at;  // of the lane's position, where the chunk begins, in units of 16 bytes

  FERRUM_DEVICE explicit GemmTile8(const GemmArguments& arguments) : Warps(arguments) {}

  // Of the down product: while the last blocks of gate and up leave memory idle, what its own first
  // blocks begin with, a row each thread. The tiles were found by the kernel in front of that,
  // which only the barrier to come would say for certain: so this may be about any expert.
  static FERRUM_DEVICE void prefetch_tile(const GemmArguments& a) {
    const GemmMatrix& down = a.matrices[0];
    const int expert = load_unordered(a.sorted.tile_expert + Warps::tile_of_block());
    const int row = static_cast<int>(blockIdx.x) * kGemmRows + static_cast<int>(threadIdx.x);
    if (expert < 0 || row >= down.rows) return;
    const uint8_t* const matrix = down.data + static_cast<size_t>(expert) * a.matrix_bytes;
    if (matrix + a.matrix_bytes <= down.end)
      prefetch_row<kType>(matrix, down.rows, a.row_bytes, row);
  }

  // The lane's runs of a chunk's stage `part`.
  FERRUM_DEVICE void load(int part, uint4 (&runs)[2]) const {
    const int slice = part * kStageSlices + this->c;
    const uint4* const block = reinterpret_cast<const uint4*>(this->a.x) + x_at +
                               slice / Weights::kSlices * (Weights::kBlock / 8);
    runs[0] = block[Weights::first(slice % Weights::kSlices) / 8];
    runs[1] = block[Weights::second(slice % Weights::kSlices) / 8];
  }

  // `next`: of the stage that comes next, which were loaded a stage before. Products stand in the
  // order of gemm-inl.h: a sum's bits do not depend on the size of its tile.
  FERRUM_DEVICE void multiply_chunk(unsigned chunk, uint4 (&next)[2]) {
    this->prepare_chunk(chunk);
    const unsigned first = chunk * kChunk.stages;
#pragma unroll
    for (int part = 0; part < kChunk.stages; ++part) {
      if (!this->has_stage(first + part)) return;
      const uint4 runs[2] = {next[0], next[1]};
      const bool last = part + 1 == kChunk.stages;
      if (last) x_at += kChunk.stages * 8;
      if ((Warps::kWholeChunks && !last) || first + part + 1 < this->end)
        load(last ? 0 : part + 1, next);
      uint32_t operand[2][4][4];
      this->decode(chunk, static_cast<unsigned>(part), operand);
      this->multiply_column(0, operand, runs[0], runs[1]);
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
