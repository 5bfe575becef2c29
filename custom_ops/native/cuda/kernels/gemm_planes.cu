// The products of types in planes.
#include "cuda/kernels/gemm_kernels-inl.h"

namespace ferrum::cuda {
FERRUM_GEMM_KERNELS(Q6_K_planes)
FERRUM_GEMM_KERNELS(Q8_0_planes)
FERRUM_GEMM_KERNELS(MXFP4_planes)
}  // namespace ferrum::cuda
