// CUDA's functions of one thread that kernels call by CUDA's names.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }
inline int __float_as_int(float value) { return static_cast<int>(__float_as_uint(value)); }

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
inline int __float2int_rn(float a) { return static_cast<int>(lrintf(a)); }

#define FERRUM_MIN_MAX(type)                                \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
FERRUM_MIN_MAX(int)
FERRUM_MIN_MAX(unsigned)
FERRUM_MIN_MAX(long)
FERRUM_MIN_MAX(unsigned long)
FERRUM_MIN_MAX(long long)
FERRUM_MIN_MAX(unsigned long long)
#undef FERRUM_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }

// Four bytes of the eight of (b, a), each chosen by a nibble of `selector`; its bit 3 spreads the
// chosen byte's sign.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  unsigned out = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned choice = selector >> 4 * i;
    unsigned byte = static_cast<unsigned>(bytes >> 8 * (choice & 7)) & 0xff;
    if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
    out |= byte << 8 * i;
  }
  return out;
}

// c plus the products of four int8 pairs.
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i)
    c += static_cast<int8_t>(a >> 8 * i) * static_cast<int8_t>(b >> 8 * i);
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; ++i) c += (a >> 8 * i & 0xff) * (b >> 8 * i & 0xff);
  return c;
}

template <class T>
inline T __ldg(const T* p) {
  return *p;
}

// Threads run one after the other, so plain memory is atomic.
#define FERRUM_ATOMIC(name, expression)                     \
  inline int name(int* address, int value) {                \
    const int old = *address;                               \
    *address = expression;                                  \
    return old;                                             \
  }                                                         \
  inline unsigned name(unsigned* address, unsigned value) { \
    const unsigned old = *address;                          \
    *address = expression;                                  \
    return old;                                             \
  }
FERRUM_ATOMIC(atomicAdd, old + value)
FERRUM_ATOMIC(atomicMax, old < value ? value : old)
FERRUM_ATOMIC(atomicMin, value < old ? value : old)
FERRUM_ATOMIC(atomicOr, old | value)
FERRUM_ATOMIC(atomicExch, value)
#undef FERRUM_ATOMIC
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace ferrum::cuda {

inline float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
inline uint32_t float_to_bits(float value) { return __float_as_uint(value); }
inline float bfloat16_to_float(uint32_t bits) { return __uint_as_float(bits << 16); }

inline float half_to_float(uint32_t bits) {
  const uint32_t sign = (bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | mantissa << 13);
  if (exponent != 0) return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact in float32
  return sign ? -magnitude : magnitude;
}

namespace on_cpu {

// The upper bits of `bits`, less the lower `dropped`, rounded to nearest even.
inline uint32_t round_off(uint32_t bits, unsigned dropped) {
  const uint32_t odd = bits >> dropped & 1;
  return (bits + (1u << (dropped - 1)) - 1 + odd) >> dropped;
}

inline uint32_t to_half(float value) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;  // the GPU's one NaN
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude >= 0x38800000)  // a normal half; rounding up may carry on into infinity
    return sign | round_off(magnitude - (112u << 23), 13);
  // Subnormal: adding 0.5 leaves the multiples of 2^-24 in the last bits, rounded by the addition.
  return sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000);
}

inline uint32_t to_bfloat16(float value) {
  const uint32_t bits = __float_as_uint(value);
  return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fff : round_off(bits, 16);
}

// a b + c of three float16, rounded once. The sum is exact in float64 wherever it lies near the
// middle of two float16; float32 takes it with the last bit set where it is inexact, so that
// rounding that to float16 is rounding the sum.
inline uint32_t fused_half(uint32_t a, uint32_t b, uint32_t c) {
  const double sum = static_cast<double>(half_to_float(a & 0xffff)) * half_to_float(b & 0xffff) +
                     half_to_float(c & 0xffff);
  const float rounded = static_cast<float>(sum);
  const bool exact = rounded == sum || isnan(rounded);
  if (exact || (__float_as_uint(rounded) & 1)) return to_half(rounded);
  const bool towards_zero = fabs(static_cast<double>(rounded)) < fabs(sum);
  return to_half(__uint_as_float(__float_as_uint(rounded) + (towards_zero ? 1u : -1u)));
}

}  // namespace on_cpu

inline uint32_t to_halves(float first, float second) {
  return on_cpu::to_half(first) | on_cpu::to_half(second) << 16;
}
inline uint32_t to_bfloat16s(float first, float second) {
  return on_cpu::to_bfloat16(first) | on_cpu::to_bfloat16(second) << 16;
}

inline float fast_exp(float x) { return expf(x); }

}  // namespace ferrum::cuda
