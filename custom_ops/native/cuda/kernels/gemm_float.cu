// The products of the 16 bit floats.
#include "cuda/kernels/gemm_kernels-inl.h"

namespace ferrum::cuda {
FERRUM_GEMM_KERNELS(F16)
FERRUM_GEMM_KERNELS(BF16)
}  // namespace ferrum::cuda
