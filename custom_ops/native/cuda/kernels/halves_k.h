// Halves of the k-quants. Their scales, 6 bits or 8 of each 16 or 32 values, are made float16 once
// per block and row, and stand in shared memory until the block's last slice is decoded.
#pragma once

#include "cuda/kernels/halves.h"

namespace ferrum::cuda {

// Q4_K's and Q5_K's scales as floats: of each part of 64 values the two groups' scales, then the
// negatives of their minimums.
FERRUM_DEVICE void prepare_parts(const uint8_t* block, uint8_t* scales) {
  const uint4 head = load_16(block);
  const uint32_t d = spread_low(head.x), dmin = spread_high(head.x) ^ 0x80008000u;
  uint32_t words[8];
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const uint32_t bytes = part_scales(head, part);
    const uint32_t factors = __byte_perm(bytes, kHalf1024, 0x5150u);
    const uint32_t mins = __byte_perm(bytes, kHalf1024, 0x5352u);
    words[2 * part] = multiply_halves(add_halves(factors, kHalfMinus1024), d);
    words[2 * part + 1] = multiply_halves(add_halves(mins, kHalfMinus1024), dmin);
  }
  auto* const out = reinterpret_cast<uint4*>(scales);
  out[0] = make_uint4(words[0], words[1], words[2], words[3]);
  out[1] = make_uint4(words[4], words[5], words[6], words[7]);
}

// Of one part, what codes of its groups are multiplied with, and what is added then.
struct HalfLines {
  uint32_t factor[2], term[2];
};
FERRUM_DEVICE HalfLines half_lines(const uint8_t* scales, int part) {
  const uint2 words = load_8(scales + 8 * part);
  return {{spread_low(words.x), spread_high(words.x)}, {spread_low(words.y), spread_high(words.y)}};
}

template <>
struct Halves<kQ4_K> {
  static FERRUM_DEVICE void prepare(const uint8_t* block, uint8_t* scales) {
    prepare_parts(block, scales);
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t* scales, int slice,
                                   uint32_t (&pairs)[8]) {
    const HalfLines lines = half_lines(scales, slice / 4);
    const uint2 q = load_8(block + 16 + 8 * slice);
    const uint32_t words[4] = {q.x, q.x >> 8, q.y, q.y >> 8};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t low = add_halves(above_1024(words[i], 0x000f000fu), kHalfMinus1024);
      pairs[i] = fma_halves(low, lines.factor[0], lines.term[0]);
      const uint32_t sixteenfold = above_1024(words[i], 0x00f000f0u);
      const uint32_t high = fma_halves(sixteenfold, kHalfSixteenth, kHalfMinus64);
      pairs[4 + i] = fma_halves(high, lines.factor[1], lines.term[1]);
    }
  }
};

template <>
struct Halves<kQ5_K> {
  static FERRUM_DEVICE void prepare(const uint8_t* block, uint8_t* scales) {
    prepare_parts(block, scales);
  }
  // Four codes of 5 bits in bytes.
  static FERRUM_DEVICE void put(uint32_t codes, const HalfLines& lines, int group,
                                uint32_t* pairs) {
    const uint32_t even = add_halves(even_bytes(codes), kHalfMinus1024);
    const uint32_t odd = add_halves(odd_bytes(codes), kHalfMinus1024);
    pairs[0] = fma_halves(even, lines.factor[group], lines.term[group]);
    pairs[1] = fma_halves(odd, lines.factor[group], lines.term[group]);
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t* scales, int slice,
                                   uint32_t (&pairs)[8]) {
    const int part = slice / 4;
    const HalfLines lines = half_lines(scales, part);
    const uint2 q = load_8(block + 48 + 8 * slice), fifth = load_8(block + 16 + 8 * (slice % 4));
    const uint32_t words[2] = {q.x, q.y}, highs[2] = {fifth.x >> 2 * part, fifth.y >> 2 * part};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      put((words[i] & 0x0f0f0f0fu) | (highs[i] << 4 & 0x10101010u), lines, 0, pairs + 2 * i);
      put((words[i] >> 4 & 0x0f0f0f0fu) | (highs[i] << 3 & 0x10101010u), lines, 1,
          pairs + 4 + 2 * i);
    }
  }
};

template <>
struct Halves<kQ6_K> {
  using Block = Format<kQ6_K>;

  // The 16 scales, int8, times d, as unpack wants them: word i holds those of slices 2 i, 2 i + 1.
  static FERRUM_DEVICE void prepare(const uint8_t* block, uint8_t* scales) {
    uint32_t bytes[4];
    load_words(block + Block::kScales, behind_4(block), bytes);
    put_scales(bytes, load_u16_aligned(block + Block::kD), scales);
  }
  static FERRUM_DEVICE void put_scales(const uint32_t (&bytes)[4], uint32_t d, uint8_t* scales) {
    uint32_t words[8];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t two =
          __byte_perm(bytes[i / 2 * 2], bytes[i / 2 * 2 + 1], i % 2 == 0 ? 0x5140u : 0x7362u) ^
          0x80808080u;
      const uint32_t above[2] = {__byte_perm(two, kHalf1024, 0x5150u),
                                 __byte_perm(two, kHalf1024, 0x5352u)};
#pragma unroll
      for (int j = 0; j < 2; ++j)
        words[2 * i + j] = multiply_halves(add_halves(above[j], kHalfMinus1152), spread_low(d));
    }
    auto* const out = reinterpret_cast<uint4*>(scales);
    out[0] = make_uint4(words[0], words[1], words[2], words[3]);
    out[1] = make_uint4(words[4], words[5], words[6], words[7]);
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t* scales, int slice,
                                   uint32_t (&pairs)[8]) {
    uint32_t q[2], high[2];
    const unsigned odd = behind_4(block);
    load_words(block + 8 * slice, odd, q);
    load_words(block + Block::kHigh + slice / 8 * 32 + slice % 4 * 8, odd, high);
    put(q, high, scales, slice, pairs);
  }
  static FERRUM_DEVICE void put(const uint32_t (&q)[2], const uint32_t (&high)[2],
                                const uint8_t* scales, int slice, uint32_t (&pairs)[8]) {
    const uint32_t both = *reinterpret_cast<const uint32_t*>(scales + slice / 2 * 4);
    const uint32_t first = spread_low(both), second = spread_high(both);
    const int shift = slice % 8 / 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t top = high[i] >> shift;
      put_bytes(low_sixes(q[i], top), kHalfMinus1056, first, pairs + 2 * i);
      put_bytes(high_sixes(q[i], top >> 4), kHalfMinus1056, second, pairs + 4 + 2 * i);
    }
  }
};

template <>
struct Halves<kQ6_K_planes> {
  template <class Block>
  static FERRUM_DEVICE void prepare(const Block& block, uint8_t* scales) {
    const uint4 v = load_16(block.template field<2>());
    Halves<kQ6_K>::put_scales({v.x, v.y, v.z, v.w}, load_u16_aligned(block.template field<3>()),
                              scales);
  }
  template <class Block>
  static FERRUM_DEVICE void unpack(const Block& block, const uint8_t* scales, int slice,
                                   uint32_t (&pairs)[8]) {
    const uint2 low = load_8(block.template field<0>() + 8 * slice);
    const uint2 top = load_8(block.template field<1>() + slice / 8 * 32 + slice % 4 * 8);
    const uint32_t q[2] = {low.x, low.y}, high[2] = {top.x, top.y};
    Halves<kQ6_K>::put(q, high, scales, slice, pairs);
  }
};

}  // namespace ferrum::cuda
