// AVX-512 with VNNI: one instruction multiplies and adds 64 bytes.
#include <immintrin.h>

#include "loops.h"

namespace ferrum {
namespace {

#include "loops-inl.h"

typedef uint64_t Words __attribute__((vector_size(64), may_alias));
constexpr int kSums = 16;

void multiply_int8(int64_t n) {
  __m512i sums[kSums] = {}, x = _mm512_set1_epi8(1);
  touch(x);
  touch_registers(sums);  // each is a sum of its own
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < kSums; ++k) sums[k] = _mm512_dpbusd_epi32(sums[k], x, x);
  }
  touch_registers(sums);
}

void multiply_float32(int64_t n) {
  __m512 sums[kSums] = {}, x = _mm512_set1_ps(0.5F);
  touch(x);
  touch_registers(sums);  // each is a sum of its own
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < kSums; ++k) sums[k] = _mm512_fmadd_ps(x, x, sums[k]);
  }
  touch_registers(sums);
}

}  // namespace

const Loops kAvx512Loops = {"avx512",
                            {"vpdpbusd zmm", 64 * kSums, multiply_int8},
                            {"vfmadd231ps zmm", 16 * kSums, multiply_float32},
                            read_lines<Words>};

}  // namespace ferrum
