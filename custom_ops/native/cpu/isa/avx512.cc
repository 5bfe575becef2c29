// The kernels for AVX-512 with VNNI (Ice Lake, Zen 4 and later): 16 lanes.
// GCC 12 takes the undefined vectors inside its own intrinsics for ours (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include <cstring>

#include "../codes.h"
#include "../half.h"
#include "../kernels.h"
#include "tables.h"

namespace ferrum {
namespace {

constexpr int kLanes = 16;
using Floats = __m512;
using Ints = __m512i;

Floats broadcast(float x) { return _mm512_set1_ps(x); }
Floats zero() { return _mm512_setzero_ps(); }
Floats load(const float* p) { return _mm512_loadu_ps(p); }
void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
float fma_scalar(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
float reduce_add(Floats x) { return _mm512_reduce_add_ps(x); }
Floats widen_half(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
Floats widen_bfloat16(const uint8_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
Ints round_to_int(Floats x) { return _mm512_cvtps_epi32(x); }
Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
Ints shift_right_1(Ints x) { return _mm512_srai_epi32(x, 1); }
Ints subtract_ints(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
Floats power_of_two(Ints n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
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

extern const Kernels kAvx512Kernels = {"avx512",         find,          quantize,
                                       rms_norm,         silu_multiply, attention_scores,
                                       exponentials,     attention_values};

}  // namespace ferrum
