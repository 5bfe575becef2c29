// Few tokens times matrices of several types, in one launch: one of them alone is often too small
// for a GPU.
#include "cuda/kernels/gemm_few-inl.h"

namespace ferrum::cuda {
namespace {

// Whether the block is one of those products.
template <class Few>
FERRUM_DEVICE bool is_of(const GemmArguments& a) {
  if (a.count == 0) return false;
  const GemmMatrix& last = a.matrices[a.count - 1];
  const int block = static_cast<int>(blockIdx.y);
  return block >= a.matrices[0].first_block &&
         block < last.first_block + (last.rows + Few::kRows - 1) / Few::kRows;
}

template <class Few>
FERRUM_DEVICE void prefetch_own(const GemmArguments& a) {
  if (is_of<Few>(a)) Few(a).prefetch();
}
template <class Few>
FERRUM_DEVICE void run_own(const GemmArguments& a) {
  if (is_of<Few>(a)) Few(a).run();
}

// In turn but where they are rounded: loading ahead takes a loop for each type of activations, and
// with one for each of these types a block has so much to fetch of the kernel itself that it took
// longer (12.7 us, not 11.6).
template <int kType, int kPositions>
using FewOf = GemmFew<kType, kPositions, kPositions == 16 ? 2 : 1, false>;

template <int kPositions>
FERRUM_DEVICE void prefetch_mixed(const MixedGemmArguments& a) {
#define FERRUM_PREFETCH_OF(type) prefetch_own<FewOf<k##type, kPositions>>(a.type);
  FERRUM_MIXED_TYPES(FERRUM_PREFETCH_OF)
#undef FERRUM_PREFETCH_OF
}

template <int kPositions>
FERRUM_DEVICE void multiply_mixed(const MixedGemmArguments& a) {
#define FERRUM_MULTIPLY_OF(type) run_own<FewOf<k##type, kPositions>>(a.type);
  FERRUM_MIXED_TYPES(FERRUM_MULTIPLY_OF)
#undef FERRUM_MULTIPLY_OF
}

}  // namespace

FERRUM_PREFETCHING_KERNEL(gemm_few_mixed_16, MixedGemmArguments, prefetch_mixed<16>, kFewThreads,
                          2) {
  multiply_mixed<16>(a);
}
FERRUM_PREFETCHING_KERNEL(gemm_few_mixed_32, MixedGemmArguments, prefetch_mixed<32>, kFewThreads,
                          2) {
  multiply_mixed<32>(a);
}

}  // namespace ferrum::cuda
