// FERRUM_GEMM_KERNELS(type): the kernels of one type's products, for tiles of each size.
#pragma once

#include "cuda/kernels/gemm_few-inl.h"
#include "cuda/kernels/gemm_tile8-inl.h"

namespace ferrum::cuda {

template <int kType, int kPositions, bool kGateUp>
struct GemmOf {
  using Block = GemmBlock<kType, kPositions, kGateUp>;
};
template <int kType, bool kGateUp>
struct GemmOf<kType, 8, kGateUp> {
  using Block = GemmTile8<kType, kGateUp>;
};

// Blocks that a multiprocessor must have registers for: as many as shared memory mostly lets it
// have, and as fit without spills.
constexpr int gemm_blocks(int type, int positions) {
  if (positions <= 32) return 4;
  return positions <= 64 && (type == kQ4_K || type == kQ5_K) ? 3 : 2;
}

template <class Block>
FERRUM_DEVICE void prefetch_tile(const GemmArguments& a) {
  if constexpr (Block::kColumns == 1) Block::prefetch_tile(a);
}
#define FERRUM_GEMM_KERNEL(type, positions)                                            \
  FERRUM_PREFETCHING_KERNEL(gemm_##type##_##positions, GemmArguments,                  \
                            (prefetch_tile<GemmOf<k##type, positions, false>::Block>), \
                            kGemmThreads, gemm_blocks(k##type, positions)) {           \
    GemmOf<k##type, positions, false>::Block(a).run();                                 \
  }
#define FERRUM_GATE_UP_KERNEL(type, positions)                             \
  FERRUM_KERNEL(gate_up_##type##_##positions, GemmArguments, kGemmThreads, \
                gemm_blocks(k##type, positions)) {                         \
    GemmOf<k##type, positions, true>::Block(a).run();                      \
  }
template <class Few>
FERRUM_DEVICE void prefetch_few(const GemmArguments& a) {
  Few(a).prefetch();
}
#define FERRUM_GEMM_FEW_KERNEL(type, positions)                                            \
  FERRUM_PREFETCHING_KERNEL(gemm_few_##type##_##positions, GemmArguments,                  \
                            (prefetch_few<GemmFew<k##type, positions>>), kFewThreads, 2) { \
    GemmFew<k##type, positions>(a).run();                                                  \
  }
#define FERRUM_GEMM_KERNELS(type)                \
  FERRUM_FEW_TILES(FERRUM_GEMM_FEW_KERNEL, type) \
  FERRUM_GEMM_TILES(FERRUM_GEMM_KERNEL, type)    \
  FERRUM_GATE_UP_TILES(FERRUM_GATE_UP_KERNEL, type)

}  // namespace ferrum::cuda
