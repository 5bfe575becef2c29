// Format of the float types: 16 values, of any alignment that the type has itself.
#pragma once

#include "cuda/kernels/formats.h"

namespace ferrum::cuda {

template <>
struct Format<kF32> {
  static constexpr int kBlock = 16, kBytes = 64, kSlices = 1;
  static FERRUM_DEVICE int first(int) { return 0; }
  static FERRUM_DEVICE int second(int) { return 8; }

  static FERRUM_DEVICE float value(const uint8_t* p) {
    return bits_to_float(*reinterpret_cast<const uint32_t*>(p));
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, int, float (&w)[16]) {
    if (is_aligned(block, 16)) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint4 bits = load_16(block + 16 * i);
        w[4 * i] = bits_to_float(bits.x);
        w[4 * i + 1] = bits_to_float(bits.y);
        w[4 * i + 2] = bits_to_float(bits.z);
        w[4 * i + 3] = bits_to_float(bits.w);
      }
    } else {
#pragma unroll
      for (int i = 0; i < 16; ++i) w[i] = value(block + 4 * i);
    }
  }
};

// Of 16 bits, which `Self::widen` makes a float.
template <class Self>
struct Floats16 {
  static constexpr int kBlock = 16, kBytes = 32, kSlices = 1;
  static FERRUM_DEVICE int first(int) { return 0; }
  static FERRUM_DEVICE int second(int) { return 8; }

  static FERRUM_DEVICE float value(const uint8_t* p) { return Self::widen(load_u16_aligned(p)); }
  static FERRUM_DEVICE void unpack(const uint8_t* block, int, float (&w)[16]) {
    if (is_aligned(block, 16)) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4 bits = load_16(block + 16 * half);
        const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          w[8 * half + 2 * i] = Self::widen(pairs[i] & 0xffff);
          w[8 * half + 2 * i + 1] = Self::widen(pairs[i] >> 16);
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < 16; ++i) w[i] = value(block + 2 * i);
    }
  }
};

template <>
struct Format<kF16> : Floats16<Format<kF16>> {
  static FERRUM_DEVICE float widen(uint32_t bits) { return half_to_float(bits); }
};

template <>
struct Format<kBF16> : Floats16<Format<kBF16>> {
  static FERRUM_DEVICE float widen(uint32_t bits) { return bfloat16_to_float(bits); }
};

}  // namespace ferrum::cuda
