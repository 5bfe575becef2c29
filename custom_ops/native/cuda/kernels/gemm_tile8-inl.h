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

  // The lane's runs of a chunk's stages. Loads beside copies of weights take as long as memory does
  // (H200: some 1,300 cycles, wherever they hit), so runs of a chunk's first stages are loaded with
  // the chunk in front, the others before the next chunk's copies are asked for.
  // Of Q4_K, whose stages are the shortest, one more.
  static constexpr int kMostEarly = kType == kQ4_K ? 3 : 2;
  static constexpr int kEarly = kChunk.stages < kMostEarly ? kChunk.stages : kMostEarly;
  static constexpr int kLate = kChunk.stages - kEarly;
  using Runs = uint4[kChunk.stages][2];

  // Of stage `part`, counted from the first of the chunk that begins at stage `begin`; if it
  // exists.
  FERRUM_DEVICE void load(unsigned begin, int part, Runs& runs) const {
    const int of_chunk = part % kChunk.stages, slice = of_chunk * kStageSlices + this->c;
    if (!(Warps::kWholeChunks && part < kChunk.stages) && begin + part >= this->end) return;
    const uint4* const block = reinterpret_cast<const uint4*>(this->a.x) + x_at +
                               (part - of_chunk) * 8 +
                               slice / Weights::kSlices * (Weights::kBlock / 8);
    runs[of_chunk][0] = block[Weights::first(slice % Weights::kSlices) / 8];
    runs[of_chunk][1] = block[Weights::second(slice % Weights::kSlices) / 8];
  }
  template <int kFirst, int kBehind>
  FERRUM_DEVICE void load_parts(unsigned chunk, Runs& runs) const {
#pragma unroll
    for (int part = kFirst; part < kBehind; ++part) load(chunk * kChunk.stages, part, runs);
  }

  // Means of the lane's position and a chunk.
  FERRUM_DEVICE void load_means(unsigned chunk, uint2& means) const {
    if constexpr (Warps::kOffsets) {
      const uint32_t at = x_at - chunk * kChunk.stages * 8 + this->a.stages * 8 + chunk * 2;
      means = reinterpret_cast<const uint2*>(this->a.x)[2 * at + this->c];
    }
  }

  // Products stand in the order of gemm-inl.h: a sum's bits do not depend on the size of its tile.
  FERRUM_DEVICE void multiply_chunk(unsigned chunk, Runs& runs, const uint2& means) {
    this->prepare_chunk(chunk);
    const unsigned begin = chunk * kChunk.stages;
#pragma unroll
    for (int part = 0; part < kChunk.stages; ++part) {
      if (!this->has_stage(begin + part)) return;
      const uint4 own[2] = {runs[part][0], runs[part][1]};
      if (part >= kLate) load(begin, part + kEarly, runs);
      uint32_t operand[2][4][4];
      this->decode(chunk, static_cast<unsigned>(part), operand);
      this->multiply_column(0, operand, own[0], own[1]);
    }
    if constexpr (Warps::kOffsets) this->multiply_offsets([&](int) { return means; });
    x_at += kChunk.stages * 8;
  }

  // Positions without a pair take the first one's row, which comes in any case: most tiles are far
  // from full.
  FERRUM_DEVICE uint32_t row_of_quad() const {
    const uint32_t row = this->x_row_of(this->quad);
    const bool exists = this->pair_at(this->quad) < this->a.sorted.count;
    const uint32_t first = __shfl_sync(kWholeWarp, row, 0);
    return exists ? row : first;
  }

  FERRUM_DEVICE void run() {
    const int expert = this->find_expert();
    x_at = row_of_quad();
    if (expert < 0) return;
    this->find_rows(expert);
    Runs runs;
    uint2 means = make_uint2(0, 0);
    load_parts<0, kEarly>(0, runs);
    this->for_each_chunk(
        [&](unsigned chunk) {
          load_parts<kEarly, kChunk.stages>(chunk, runs);
          load_means(chunk, means);
        },
        [&](unsigned chunk) { multiply_chunk(chunk, runs, means); });
    if constexpr (kGateUp)
      this->store_hidden();
    else
      this->template store_as<kF32>();
  }
};

}  // namespace ferrum::cuda
