// The products of Q6_K and IQ4_XS.
#include "cuda/kernels/gemm_kernels-inl.h"

namespace ferrum::cuda {
FERRUM_GEMM_KERNELS(Q6_K)
FERRUM_GEMM_KERNELS(IQ4_XS)
}  // namespace ferrum::cuda
