// Halves of the blocks of 32 and of IQ4_XS. Those of MXFP4 go through float32: its scales exceed
// float16's range.
#pragma once

#include "cuda/kernels/halves_k.h"

namespace ferrum::cuda {

template <>
struct Halves<kQ8_0> {
  static FERRUM_DEVICE void prepare(const uint8_t*, uint8_t*) {}
  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t*, int slice,
                                   uint32_t (&pairs)[8]) {
    uint32_t codes[4];
    load_words(block + 2 + 16 * slice, behind_4(block + 2), codes);
    put(load_u16_aligned(block), codes, pairs);
  }
  static FERRUM_DEVICE void put(uint32_t d, const uint32_t (&codes)[4], uint32_t (&pairs)[8]) {
    const uint32_t scale = spread_low(d);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      put_bytes(codes[i] ^ 0x80808080u, kHalfMinus1152, scale, pairs + 2 * i);
  }
};

template <>
struct Halves<kQ8_0_planes> {
  template <class Block>
  static FERRUM_DEVICE void prepare(const Block&, uint8_t*) {}
  template <class Block>
  static FERRUM_DEVICE void unpack(const Block& block, const uint8_t*, int slice,
                                   uint32_t (&pairs)[8]) {
    const uint4 q = load_16(block.template field<1>() + 16 * slice);
    const uint32_t codes[4] = {q.x, q.y, q.z, q.w};
    Halves<kQ8_0>::put(load_u16_aligned(block.template field<0>()), codes, pairs);
  }
};

template <>
struct Halves<kQ4_0> {
  static FERRUM_DEVICE void prepare(const uint8_t*, uint8_t*) {}
  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t*, int slice,
                                   uint32_t (&pairs)[8]) {
    constexpr uint32_t kMinus1032 = 0xe408e408u, kMinus72 = 0xd480d480u;
    const uint32_t scale = spread_low(load_u16_aligned(block));
    uint32_t q[2];
    load_words(block + 2 + 8 * slice, behind_4(block + 2), q);
    const uint32_t words[4] = {q[0], q[0] >> 8, q[1], q[1] >> 8};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t low = add_halves(above_1024(words[i], 0x000f000fu), kMinus1032);
      const uint32_t high = add_halves(above_64(words[i], 0x00f000f0u), kMinus72);
      pairs[i] = multiply_halves(low, scale);
      pairs[4 + i] = multiply_halves(high, scale);
    }
  }
};

// The table's entries shifted to be positive.
FERRUM_DEVICE constexpr Table16 table16_above_128(const int8_t (&values)[16]) {
  Table16 table = table16(values);
  for (uint32_t& word : table.words) word ^= 0x80808080u;
  return table;
}

template <>
struct Halves<kIQ4_XS> {
  // The scales of the 8 groups of 32.
  static FERRUM_DEVICE void prepare(const uint8_t* block, uint8_t* scales) {
    const uint2 head = load_8(block);
    const uint32_t d = spread_low(head.x);
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t low = (head.y >> 8 * i & 0xf) | (head.y >> 8 * i & 0xf0) << 12;
      const uint32_t high = (head.x >> (16 + 4 * i) & 3) | (head.x >> (2 + 4 * i) & 0x30000u);
      words[i] = multiply_halves(add_halves(low | high << 4 | kHalf1024, kHalfMinus1056), d);
    }
    *reinterpret_cast<uint4*>(scales) = make_uint4(words[0], words[1], words[2], words[3]);
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t* scales, int slice,
                                   uint32_t (&pairs)[8]) {
    constexpr Table16 table = table16_above_128(kValuesIQ4);
    const uint32_t scale = spread_low(load_u16_aligned(scales + slice / 2 * 2));
    const uint2 q = load_8(block + 8 + 8 * slice);
    const uint32_t words[2] = {q.x, q.y};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t front = look_up_4(table, words[i] & 0xffff);
      const uint32_t back = look_up_4(table, words[i] >> 16);
      put_bytes(pick_bytes(front, back, 0x6420u), kHalfMinus1152, scale, pairs + 2 * i);
      put_bytes(pick_bytes(front, back, 0x7531u), kHalfMinus1152, scale, pairs + 4 + 2 * i);
    }
  }
};

}  // namespace ferrum::cuda
