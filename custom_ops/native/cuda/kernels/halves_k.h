// Halves of the k-quants. Their scales, 6 bits or 8 of each 16 or 32 values, are made float16 once
// per block and row, and stand in shared memory until the block's last slice is decoded.
#pragma once

#include "cuda/kernels/halves.h"

namespace ferrum::cuda {

// Of one part, what codes of its groups are multiplied with, and what is added then.
struct HalfLines {
  uint32_t factor[2], term[2];
};

// Q4_K and Q5_K. Scales are of each part of 64 values the two groups' factors and the negatives of
// their minimums; without offsets first all factors, then the negatives of all minimums, of groups
// 0 and 2, 1 and 3, 4 and 6, 5 and 7.
template <bool kOffsetsApart>
struct HalvesOfParts {
  static constexpr bool kOffsets = kOffsetsApart;

  static FERRUM_DEVICE void prepare(const uint8_t* block, uint8_t* scales) {
    const uint4 head = load_16(block);
    const uint32_t d = spread_low(head.x), dmin = spread_high(head.x) ^ 0x80008000u;
    const uint32_t factor_codes[2] = {head.y & 0x3f3f3f3fu,
                                      (head.w & 0x0f0f0f0fu) | (head.y >> 2 & 0x30303030u)};
    const uint32_t min_codes[2] = {head.z & 0x3f3f3f3fu,
                                   (head.w >> 4 & 0x0f0f0f0fu) | (head.z >> 2 & 0x30303030u)};
    constexpr uint32_t kMins[2] = {kOffsets ? 0x5250u : 0x5150u, kOffsets ? 0x5351u : 0x5352u};
    uint32_t factors[4], mins[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      factors[i] = scaled_bytes(factor_codes[i / 2], i % 2 == 0 ? 0x5150u : 0x5352u, d);
      mins[i] = scaled_bytes(min_codes[i / 2], kMins[i % 2], dmin);
    }
    auto* const out = reinterpret_cast<uint4*>(scales);
    if (kOffsets) {
      out[0] = make_uint4(factors[0], factors[1], factors[2], factors[3]);
      out[1] = make_uint4(mins[0], mins[1], mins[2], mins[3]);
    } else {
      out[0] = make_uint4(factors[0], mins[0], factors[1], mins[1]);
      out[1] = make_uint4(factors[2], mins[2], factors[3], mins[3]);
    }
  }
  // Two of four bytes, as the selector says, times d.
  static FERRUM_DEVICE uint32_t scaled_bytes(uint32_t bytes, uint32_t selector, uint32_t d) {
    const uint32_t above = __byte_perm(bytes, kHalf1024, selector);
    return multiply_halves(add_halves(above, kHalfMinus1024), d);
  }
  // `minus_above`: the negatives of what the groups' codes come with.
  static FERRUM_DEVICE HalfLines lines(const uint8_t* scales, int slice, uint32_t minus_above) {
    uint2 words;
    if constexpr (kOffsets) {
      words.x = reinterpret_cast<const uint32_t*>(scales)[slice / 4];
      words.y = multiply_halves(words.x, minus_above);
    } else {
      words = load_8(scales + slice / 4 * 8);
    }
    return {{spread_low(words.x), spread_high(words.x)},
            {spread_low(words.y), spread_high(words.y)}};
  }
  // Codes, as they come, times their group's factor.
  static FERRUM_DEVICE uint32_t scaled(uint32_t codes, uint32_t minus_above, const HalfLines& line,
                                       int group) {
    return fma_halves(kOffsets ? codes : add_halves(codes, minus_above), line.factor[group],
                      line.term[group]);
  }

  static FERRUM_DEVICE void offsets_of_means(const uint8_t* scales, int c, uint32_t (&pairs)[2]) {
    const auto mins = *reinterpret_cast<const uint32_t*>(scales + 16 + 4 * c);
    pairs[0] = pairs[1] = multiply_halves(mins, kHalf16);
  }
};

template <bool kOffsetsApart>
struct HalvesOfQ4_K : HalvesOfParts<kOffsetsApart> {
  using Parts = HalvesOfParts<kOffsetsApart>;
  static constexpr uint32_t kMinusAbove = (kHalfMinus1024 & 0xffff) | (kHalfMinus64 & 0xffff0000u);

  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t* scales, int slice,
                                   uint32_t (&pairs)[8]) {
    const HalfLines line = Parts::lines(scales, slice, kMinusAbove);
    const uint2 q = load_8(block + 16 + 8 * slice);
    const uint32_t words[4] = {q.x, q.x >> 8, q.y, q.y >> 8};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = Parts::scaled(above_1024(words[i], 0x000f000fu), kHalfMinus1024, line, 0);
      pairs[4 + i] = Parts::scaled(above_64(words[i], 0x00f000f0u), kHalfMinus64, line, 1);
    }
  }
};
template <>
struct Halves<kQ4_K> : HalvesOfQ4_K<false> {};
template <>
struct HalvesLessOffsets<kQ4_K> : HalvesOfQ4_K<true> {};

template <bool kOffsetsApart>
struct HalvesOfQ5_K : HalvesOfParts<kOffsetsApart> {
  using Parts = HalvesOfParts<kOffsetsApart>;
  // Four codes of 5 bits in bytes.
  static FERRUM_DEVICE void put(uint32_t codes, const HalfLines& line, int group, uint32_t* pairs) {
    pairs[0] = Parts::scaled(even_bytes(codes), kHalfMinus1024, line, group);
    pairs[1] = Parts::scaled(odd_bytes(codes), kHalfMinus1024, line, group);
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t* scales, int slice,
                                   uint32_t (&pairs)[8]) {
    const int part = slice / 4;
    const HalfLines line = Parts::lines(scales, slice, kHalfMinus1024);
    const uint2 q = load_8(block + 48 + 8 * slice), fifth = load_8(block + 16 + 8 * (slice % 4));
    const uint32_t words[2] = {q.x, q.y}, highs[2] = {fifth.x >> 2 * part, fifth.y >> 2 * part};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      put((words[i] & 0x0f0f0f0fu) | (highs[i] << 4 & 0x10101010u), line, 0, pairs + 2 * i);
      put((words[i] >> 4 & 0x0f0f0f0fu) | (highs[i] << 3 & 0x10101010u), line, 1,
          pairs + 4 + 2 * i);
    }
  }
};
template <>
struct Halves<kQ5_K> : HalvesOfQ5_K<false> {};
template <>
struct HalvesLessOffsets<kQ5_K> : HalvesOfQ5_K<true> {};

// Offsets make codes signed: they are 32 too high.
template <bool kOffsetsApart>
struct HalvesOfQ6_K {
  using Block = Format<kQ6_K>;
  static constexpr bool kOffsets = kOffsetsApart;

  // The 16 scales, int8, times d, as unpack wants them: word i holds those of slices 2 i, 2 i + 1,
  // of 16 values and of those 64 further on.
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
    load_words_of_more(block + 8 * slice, odd, q);
    load_words_of_more(block + Block::kHigh + slice / 8 * 32 + slice % 4 * 8, odd, high);
    put(q, high, scales, slice, pairs);
  }
  static FERRUM_DEVICE void put(const uint32_t (&q)[2], const uint32_t (&high)[2],
                                const uint8_t* scales, int slice, uint32_t (&pairs)[8]) {
    const uint32_t factors = *reinterpret_cast<const uint32_t*>(scales + slice / 2 * 4);
    const uint32_t terms = multiply_halves(factors, kHalfMinus1024);
    const int shift = slice % 8 / 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t top = high[i] >> shift;
      put_codes(low_sixes(q[i], top), spread_low(factors), spread_low(terms), pairs + 2 * i);
      put_codes(high_sixes(q[i], top >> 4), spread_high(factors), spread_high(terms),
                pairs + 4 + 2 * i);
    }
  }
  static FERRUM_DEVICE void put_codes(uint32_t codes, uint32_t factor, uint32_t term,
                                      uint32_t* pairs) {
    if constexpr (kOffsets) {
      pairs[0] = fma_halves(even_bytes(codes), factor, term);
      pairs[1] = fma_halves(odd_bytes(codes), factor, term);
    } else {
      put_bytes(codes, kHalfMinus1056, factor, pairs);
    }
  }

  static FERRUM_DEVICE void offsets_of_means(const uint8_t* scales, int c, uint32_t (&pairs)[2]) {
    const uint2 factors = load_8(scales + 8 * c);
    pairs[0] = multiply_halves(factors.x, kHalfMinus512);
    pairs[1] = multiply_halves(factors.y, kHalfMinus512);
  }
};

template <>
struct Halves<kQ6_K> : HalvesOfQ6_K<false> {};
template <>
struct HalvesLessOffsets<kQ6_K> : HalvesOfQ6_K<true> {};

template <bool kOffsetsApart>
struct HalvesOfQ6_KPlanes : HalvesOfQ6_K<kOffsetsApart> {
  using Raw = HalvesOfQ6_K<kOffsetsApart>;
  template <class Block>
  static FERRUM_DEVICE void prepare(const Block& block, uint8_t* scales) {
    const uint4 v = load_16(block.template field<2>());
    Raw::put_scales({v.x, v.y, v.z, v.w}, load_u16_aligned(block.template field<3>()), scales);
  }
  template <class Block>
  static FERRUM_DEVICE void unpack(const Block& block, const uint8_t* scales, int slice,
                                   uint32_t (&pairs)[8]) {
    const uint2 low = load_8(block.template field<0>() + 8 * slice);
    const uint2 top = load_8(block.template field<1>() + slice / 8 * 32 + slice % 4 * 8);
    const uint32_t q[2] = {low.x, low.y}, high[2] = {top.x, top.y};
    Raw::put(q, high, scales, slice, pairs);
  }
};
template <>
struct Halves<kQ6_K_planes> : HalvesOfQ6_KPlanes<false> {};
template <>
struct HalvesLessOffsets<kQ6_K_planes> : HalvesOfQ6_KPlanes<true> {};

}  // namespace ferrum::cuda
