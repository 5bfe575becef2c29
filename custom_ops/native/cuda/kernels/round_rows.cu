// Activations as the gemm reads them.
#include "cuda/kernels/round_row-inl.h"

namespace ferrum::cuda {

// A block per row.
FERRUM_KERNEL(round_rows, RoundArguments, kRoundThreads) {
  const int first = static_cast<int>(blockIdx.x) * kRoundThreads + static_cast<int>(threadIdx.x);
  for (int i = first; i < a.zero_count; i += static_cast<int>(gridDim.x) * kRoundThreads)
    a.zeros[i] = 0;
  round_row(a, blockIdx.x, kRoundThreads);
}

}  // namespace ferrum::cuda
