// One row of activations as the gemm reads them: float16, whole stages, in the order of
// paired_index.
#pragma once

#include "cuda/kernels/elements-inl.h"
#include "cuda/kernels/gemm_arguments.h"

namespace ferrum::cuda {

// 8 values of float16, as they are.
FERRUM_DEVICE uint4 paired(uint4 v) {
  return make_uint4(__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.x, v.y, 0x7632),
                    __byte_perm(v.z, v.w, 0x5410), __byte_perm(v.z, v.w, 0x7632));
}

// 8 neighbours as tensor cores' operands take them: float16, two pairs to a register.
FERRUM_DEVICE uint4 paired_halves(ConstElements x, size_t i) {
  if (x.type == kF16) return paired(*reinterpret_cast<const uint4*>(halves_of(x) + i));
  const float4 low = load_four(x, i), high = load_four(x, i + 4);
  return make_uint4(to_finite_halves(low.x, low.z), to_finite_halves(low.y, low.w),
                    to_finite_halves(high.x, high.z), to_finite_halves(high.y, high.w));
}

// By all threads of a block, 8 values at a time.
FERRUM_DEVICE void round_row(const RoundArguments& a, size_t row, int threads) {
  auto* const out = reinterpret_cast<uint4*>(a.out + row * a.stride);
  for (int i = static_cast<int>(threadIdx.x); i < a.stride / 8; i += threads) {
    uint4 halves = make_uint4(0, 0, 0, 0);
    if (8 * i < a.k) halves = paired_halves(a.x, row * a.k + 8 * i);
    out[i] = halves;
  }
}

}  // namespace ferrum::cuda
