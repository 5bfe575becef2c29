// Few tokens times matrices of several types, in one launch: one of them alone is often too small
// for a GPU.
#include "cuda/kernels/gemm_few-inl.h"

namespace ferrum::cuda {
namespace {

FERRUM_DEVICE bool has_block(const GemmArguments& a) {
  if (a.count == 0) return false;
  const GemmMatrix& last = a.matrices[a.count - 1];
  const int block = static_cast<int>(blockIdx.y);
  return block >= a.matrices[0].first_block &&
         block < last.first_block + (last.rows + kFewRows - 1) / kFewRows;
}

FERRUM_DEVICE void prefetch_mixed(const MixedGemmArguments& a) {
#define FERRUM_PREFETCH_OF(type) \
  if (has_block(a.type)) GemmFew<k##type>(a.type).prefetch();
  FERRUM_MIXED_TYPES(FERRUM_PREFETCH_OF)
#undef FERRUM_PREFETCH_OF
}

}  // namespace

FERRUM_PREFETCHING_KERNEL(gemm_few_mixed, MixedGemmArguments, prefetch_mixed, kFewThreads, 2) {
#define FERRUM_FEW_OF(type) \
  if (has_block(a.type)) GemmFew<k##type>(a.type).run();
  FERRUM_MIXED_TYPES(FERRUM_FEW_OF)
#undef FERRUM_FEW_OF
}

}  // namespace ferrum::cuda
