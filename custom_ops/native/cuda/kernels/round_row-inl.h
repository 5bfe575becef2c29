// One row of activations as the gemm reads them: float16, whole stages, in the order of
// paired_index.
#pragma once

#include "cuda/kernels/elements-inl.h"
#include "cuda/kernels/gemm_arguments.h"
#include "cuda/kernels/halves_codes.h"

namespace ferrum::cuda {

FERRUM_DEVICE uint4 paired(float4 low, float4 high) {
  return make_uint4(to_finite_halves(low.x, low.z), to_finite_halves(low.y, low.w),
                    to_finite_halves(high.x, high.z), to_finite_halves(high.y, high.w));
}
FERRUM_DEVICE uint4 paired(uint4 v) {  // of float16, as they are
  return make_uint4(__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.x, v.y, 0x7632),
                    __byte_perm(v.z, v.w, 0x5410), __byte_perm(v.z, v.w, 0x7632));
}

// 8 neighbours of x on their way, and then as tensor cores' operands take them: float16, two pairs
// to a register.
template <int kType>
struct Eight {
  uint4 v = make_uint4(0, 0, 0, 0);

  FERRUM_DEVICE void load(const void* x, size_t i) {
    v = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(x) + i);
  }
  FERRUM_DEVICE uint4 halves() const {
    if constexpr (kType == kRounded)
      return v;
    else if constexpr (kType == kF16)
      return paired(v);
    else
      return paired(four_of_bfloat16s(make_uint2(v.x, v.y)),
                    four_of_bfloat16s(make_uint2(v.z, v.w)));
  }
};
template <>
struct Eight<kF32> {
  float4 low = make_float4(0.0f, 0.0f, 0.0f, 0.0f), high = low;

  FERRUM_DEVICE void load(const void* x, size_t i) {
    const auto* const from = reinterpret_cast<const float4*>(static_cast<const float*>(x) + i);
    low = from[0], high = from[1];
  }
  FERRUM_DEVICE uint4 halves() const { return paired(low, high); }
};

// The mean of 16 values as the gemm reads it.
FERRUM_DEVICE uint16_t half_mean(float sum) {
  return static_cast<uint16_t>(to_finite_halves(sum * (1.0f / kMeanValues), 0.0f));
}
FERRUM_DEVICE float sum_of_pair(uint32_t pair) {
  return half_to_float(pair & 0xffff) + half_to_float(pair >> 16);
}

// By all threads of a block, 8 values at a time; those of a mean are neighbours'.
FERRUM_DEVICE void round_row(const RoundArguments& a, size_t row, int threads) {
  uint16_t* const out = a.out + row * a.rows.stride;
  with_element_type(a.x.type, [&](auto type) {
    for (int begin = 0; begin < a.rows.values / 8; begin += threads) {
      const int i = begin + static_cast<int>(threadIdx.x);
      Eight<decltype(type)::value> values;
      if (8 * i < a.k) values.load(a.x.data, row * a.k + 8 * i);
      const uint4 eight = values.halves();
      float sum = (sum_of_pair(eight.x) + sum_of_pair(eight.y)) +
                  (sum_of_pair(eight.z) + sum_of_pair(eight.w));
      sum += __shfl_xor_sync(kWholeWarp, sum, 1);
      if (8 * i >= a.rows.values) continue;
      reinterpret_cast<uint4*>(out)[i] = eight;
      if (i % 2 == 0) out[a.rows.values + mean_index(i / 2)] = half_mean(sum);
    }
  });
}

}  // namespace ferrum::cuda
