// One row of activations as the gemm reads them: float16, whole stages, in the order of
// paired_index.
#pragma once

#include "cuda/device.h"
#include "cuda/kernels/gemm_arguments.h"
#include "cuda/kernels/within_half.h"

namespace ferrum::cuda {

// By all threads of a block, 8 values at a time.
FERRUM_DEVICE void round_row(const RoundArguments& a, size_t row, int threads) {
  const auto* const x = reinterpret_cast<const float4*>(a.x + row * a.k);
  auto* const out = reinterpret_cast<uint4*>(a.out + row * a.stride);
  for (int i = static_cast<int>(threadIdx.x); i < a.stride / 8; i += threads) {
    uint4 halves = make_uint4(0, 0, 0, 0);
    if (8 * i < a.k) {
      const float4 low = x[2 * i], high = x[2 * i + 1];
      halves = make_uint4(to_halves(within_half(low.x), within_half(low.z)),
                          to_halves(within_half(low.y), within_half(low.w)),
                          to_halves(within_half(high.x), within_half(high.z)),
                          to_halves(within_half(high.y), within_half(high.w)));
    }
    out[i] = halves;
  }
}

}  // namespace ferrum::cuda
