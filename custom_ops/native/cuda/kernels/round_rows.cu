// Activations as the gemm reads them.
#include "cuda/kernels/round_row-inl.h"

namespace ferrum::cuda {

// A block per row.
FERRUM_KERNEL(round_rows, RoundArguments, kRoundThreads) {
  round_row(a, blockIdx.x, kRoundThreads);
}

}  // namespace ferrum::cuda
