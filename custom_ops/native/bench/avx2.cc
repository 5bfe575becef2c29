// AVX2: products of bytes in three steps, since it has no dot product of them.
#include <immintrin.h>

#include "loops.h"

namespace ferrum {
namespace {

#include "loops-inl.h"

typedef uint64_t Words __attribute__((vector_size(32), may_alias));
constexpr int kSums = 12;  // of 16 registers; two operands, two steps between

void multiply_int8(int64_t n) {
  __m256i sums[kSums] = {}, x[1] = {_mm256_set1_epi8(1)}, ones = _mm256_set1_epi16(1);
  touch(ones);
  touch_registers(sums);  // each is a sum of its own
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < kSums; ++k) {
      touch_registers(x);  // so that each product is taken anew
      const __m256i pairs = _mm256_maddubs_epi16(x[0], x[0]);
      sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(pairs, ones));
    }
  }
  touch_registers(sums);
}

void multiply_float32(int64_t n) {
  __m256 sums[kSums] = {}, x = _mm256_set1_ps(0.5F);
  touch(x);
  touch_registers(sums);  // each is a sum of its own
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < kSums; ++k) sums[k] = _mm256_fmadd_ps(x, x, sums[k]);
  }
  touch_registers(sums);
}

}  // namespace

const Loops kAvx2Loops = {"avx2",
                          {"vpmaddubsw+vpmaddwd+vpaddd ymm", 32 * kSums, multiply_int8},
                          {"vfmadd231ps ymm", 8 * kSums, multiply_float32},
                          read_lines<Words>};

}  // namespace ferrum
