// Functions of one thread: conversions and bits.
#include <cmath>

#include "cuda/device.h"
#include "cuda/on_cpu/self_test.h"

namespace ferrum::cuda::on_cpu {
namespace {

uint32_t half_of(float x) { return to_halves(x, 1.0f) & 0xffff; }
uint32_t bfloat16_of(float x) { return to_bfloat16s(1.0f, x) >> 16; }

float exact_half(uint32_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                        : std::ldexp(1024.0f + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

// `below` and `above` are neighbours, `middle` lies between them.
void expect_rounding(uint32_t (*round)(float), float middle, uint32_t below, uint32_t above) {
  const float infinity = std::copysign(INFINITY, middle);
  expect(round(middle) == (below & 1 ? above : below), middle, " is not rounded to even");
  expect(round(std::nextafter(middle, 0.0f)) == below, "just below ", middle, ": rounded up");
  expect(round(std::nextafter(middle, infinity)) == above, "just above ", middle, ": rounded down");
}

void test_halves() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = half_to_float(bits | 0xabcd0000u);
    if ((bits & 0x7c00) == 0x7c00) {
      const bool nan = (bits & 0x3ff) != 0;
      expect(nan ? std::isnan(value) : std::isinf(value), "half ", bits, ": ", value);
      expect(half_of(value) == (nan ? 0x7fff : bits), "half ", bits, " comes back otherwise");
      continue;
    }
    expect(value == exact_half(bits) && std::signbit(value) == (bits >> 15), "half ", bits, ": ",
           value);
    expect(half_of(value) == bits, "half ", bits, " comes back as ", half_of(value));
    // Beyond the largest half lies what would be the next, 65536, which is infinite.
    const float next =
        (bits & 0x7fff) == 0x7bff ? std::copysign(65536.0f, value) : exact_half(bits + 1);
    expect_rounding(half_of, value + (next - value) / 2, bits, bits + 1);
  }
  expect(half_of(1e30f) == 0x7c00 && half_of(-1e30f) == 0xfc00, "beyond float16: not infinite");
  expect(half_of(0x1p-140f) == 0 && half_of(-0x1p-140f) == 0x8000, "near 0: not 0");
  expect(to_halves(1.0f, -2.0f) == 0xc0003c00u, "to_halves: not the first in the lower half");
  expect(to_finite_halves(65520.0f, -INFINITY) == 0xfbff7bffu, "to_finite_halves: not the largest");
  expect(to_finite_halves(NAN, -2.0f) == 0xc0007fffu, "to_finite_halves: not NaN, -2");
}

void test_bfloat16s() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = bfloat16_to_float(bits);
    if (std::isnan(value)) {
      expect(bfloat16_of(value) == 0x7fff, "bfloat16 ", bits, " is no longer NaN");
      continue;
    }
    expect(bfloat16_of(value) == bits, "bfloat16 ", bits, " comes back otherwise");
    if (std::isfinite(value))
      expect_rounding(bfloat16_of, bits_to_float(bits << 16 | 0x8000), bits, bits + 1);
  }
  expect(to_bfloat16s(1.0f, -2.0f) == 0xc0003f80u, "to_bfloat16s: not the first in the lower half");
}

void test_half_arithmetic() {
  for (uint32_t q = 0; q < 1024; ++q) {
    const uint32_t pair = mask_or(q | 0xabc00000u, 0x3ffu, 0x3c006400u);
    expect(half_to_float(add_halves(pair, 0xbc00e400u) & 0xffff) == q, q, " + 1024 - 1024");
  }
  // Rounded once: in the upper half 1 + 2^-9 + 2^-20 + 2^-11 lies above the middle of two float16,
  // and in it once the product is rounded.
  expect(fma_halves(0x3c013c01u, 0x3c013c01u, 0x10009000u) == 0x3c033c02u, "fma_halves");
  expect(multiply_halves(0x00018000u, 0x38003c00u) == 0x00008000u, "multiply_halves");
  expect(spread_low(0x12345678u) == 0x56785678u && spread_high(0x12345678u) == 0x12341234u,
         "spread_low, spread_high");
}

}  // namespace

void test_conversions() {
  test_halves();
  test_half_arithmetic();
  test_bfloat16s();
}

void test_byte_functions() {
  expect(__byte_perm(0x33221100u, 0x77665544u, 0x7531) == 0x77553311u, "__byte_perm");
  expect(__byte_perm(0x00008000u, 0, 0x0009) == 0x000000ffu, "__byte_perm of a sign");
  expect(__dp4a(static_cast<int>(0x01ff7f80u), 0x02020202, 5) == 5 + 2 * (1 - 1 + 127 - 128),
         "__dp4a of int8");
  expect(__dp4a(0x01ff7f80u, 0x02020202u, 5u) == 5 + 2 * (1 + 255 + 127 + 128), "__dp4a of uint8");
  expect(__popc(0xf0f0u) == 8 && __ffs(0) == 0 && __ffs(8) == 4, "__popc, __ffs");
  expect(__clz(0) == 32 && __clz(1) == 31 && __clz(-1) == 0, "__clz");
  expect(silu(0.0f) == 0.0f && std::isnan(silu(NAN)), "silu");
}

}  // namespace ferrum::cuda::on_cpu
