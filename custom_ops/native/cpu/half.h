// float16 and bfloat16 to float32 in plain integer arithmetic, for code compiled for any machine.
//
// Every function is static: an object compiled for a newer instruction set must not lend its copy
// to the baseline (the linker would keep either one).
#pragma once

#include <cstdint>
#include <cstring>

#include "../quants.h"

// Before every function here and in decode_*-inl.h, for device code, which includes them too and
// defines it first.
#ifndef FERRUM_CODEC
#define FERRUM_CODEC
#endif

namespace ferrum {

FERRUM_CODEC static inline float float_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

FERRUM_CODEC static inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

FERRUM_CODEC static inline float half_to_float(uint32_t bits) {
  const uint32_t sign = (bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31, mantissa = bits & 0x3ff;
  if (exponent == 31) return float_from_bits(sign | 0x7f800000 | mantissa << 13);
  if (exponent != 0) return float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact in float32
  return sign ? -magnitude : magnitude;
}

FERRUM_CODEC static inline float to_float(Half half) {
  return half_to_float(static_cast<uint32_t>(half.low) | static_cast<uint32_t>(half.high) << 8);
}

FERRUM_CODEC static inline uint32_t read_u16(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8;
}

FERRUM_CODEC static inline uint32_t read_u32(const uint8_t* p) {
  return read_u16(p) | read_u16(p + 2) << 16;
}

FERRUM_CODEC static inline float bfloat16_to_float(uint32_t bits) {
  return float_from_bits(bits << 16);
}

}  // namespace ferrum
