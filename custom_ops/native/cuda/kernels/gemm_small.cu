// The products of the blocks of 32.
#include "cuda/kernels/gemm_kernels-inl.h"

namespace ferrum::cuda {
FERRUM_GEMM_KERNELS(Q8_0)
FERRUM_GEMM_KERNELS(Q4_0)
FERRUM_GEMM_KERNELS(MXFP4)
}  // namespace ferrum::cuda
