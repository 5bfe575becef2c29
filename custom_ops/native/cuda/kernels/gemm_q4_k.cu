// The products of Q4_K and Q5_K.
#include "cuda/kernels/gemm_kernels-inl.h"

namespace ferrum::cuda {
FERRUM_GEMM_KERNELS(Q4_K)
FERRUM_GEMM_KERNELS(Q5_K)
}  // namespace ferrum::cuda
