// The kernels for AVX2 with FMA and F16C (Haswell, Zen 1 and later): 8 lanes.
#include <immintrin.h>

#include <cstring>

#include "../codes.h"
#include "../half.h"
#include "../kernels.h"
#include "tables.h"

namespace ferrum {
namespace {

constexpr int kLanes = 8;
using Floats = __m256;
using Ints = __m256i;

Floats broadcast(float x) { return _mm256_set1_ps(x); }
Floats zero() { return _mm256_setzero_ps(); }
Floats load(const float* p) { return _mm256_loadu_ps(p); }
void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
float fma_scalar(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
float reduce_add(Floats x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
Floats widen_half(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
Floats widen_bfloat16(const uint8_t* p) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
Ints round_to_int(Floats x) { return _mm256_cvtps_epi32(x); }
Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
Ints shift_right_1(Ints x) { return _mm256_srai_epi32(x, 1); }
Ints subtract_ints(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
Floats power_of_two(Ints n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

#include "../exp-inl.h"
#include "../floats-inl.h"
#include "../attention-inl.h"
#include "../quantize-inl.h"
#include "../row_int8-inl.h"

void quantize(const float* x, int64_t k, int8_t* q, float* scale, int16_t* sums) {
  for (int64_t at = 0; at < k; at += kGroup, q += kGroup, ++scale, sums += 2)
    quantize_group(x + at, k - at < kGroup ? k - at : kGroup, q, scale, sums);
}

#define FERRUM_KERNELS(name, id, block, bytes) \
  {id, (block) > 1 ? matmul_int8<id> : nullptr, matmul_float<id>},
constexpr QuantKernels kQuantKernels[] = {FERRUM_QUANTS(FERRUM_KERNELS)};
#undef FERRUM_KERNELS

#include "../find-inl.h"

}  // namespace

extern const Kernels kAvx2Kernels = {"avx2",           find,          quantize,
                                     rms_norm,         silu_multiply, attention_scores,
                                     exponentials,     attention_values};

}  // namespace ferrum
