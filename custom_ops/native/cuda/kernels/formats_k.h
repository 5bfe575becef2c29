// Format of the k-quants. Their codes become floats of the form 2 + code / 2^n, with two operations
// on four codes and one on each, and the scale's multiplication takes the two away again.
#pragma once

#include "cuda/kernels/formats.h"

namespace ferrum::cuda {

// Of Q4_K and Q5_K, part 0 to 3 of a block (64 values: a group of 32 in the low nibbles, one in the
// high). The bytes of the result: both groups' scales, then both groups' minimums, 6 bits each.
// `head` is the block's first 16 bytes.
FERRUM_DEVICE uint32_t part_scales(const uint4& head, int part) {
  const uint32_t pair = part & 1 ? 0x7632u : 0x5410u;
  const uint32_t early = pick_bytes(head.y, head.z, pair);
  const uint32_t late = pick_bytes(head.w, head.w >> 4, pair);
  const uint32_t low = part < 2 ? early : late, high = early >> (part & 2);
  return (low & 0x0f0f0f0fu) | (high & 0x30303030u);
}

// Both groups' scales times `unit`, and both groups' minimums.
struct PartScales {
  float factor[2], min[2];
};
FERRUM_DEVICE PartScales part_floats(const uint4& head, int part, float unit) {
  const uint32_t scales = part_scales(head, part);
  const float d = 64.0f * unit * half_to_float(head.x & 0xffff);
  const float dmin = 64.0f * half_to_float(head.x >> 16);
  const float zero = -2.0f * d, zero_min = -2.0f * dmin;  // for mantissa_of_byte's two
  return {{fmaf(mantissa_of_byte(scales, 0), d, zero), fmaf(mantissa_of_byte(scales, 1), d, zero)},
          {fmaf(mantissa_of_byte(scales, 2), dmin, zero_min),
           fmaf(mantissa_of_byte(scales, 3), dmin, zero_min)}};
}

// What makes 2 + code / 2^n a weight: times `factor`, plus `term`.
struct Line {
  float factor, term;
};
FERRUM_DEVICE Line part_line(const PartScales& scales, int group) {
  return {scales.factor[group], fmaf(-2.0f, scales.factor[group], -scales.min[group])};
}

// Eight codes of eight bytes, as mantissa_of_byte takes them.
FERRUM_DEVICE void put_line(const uint2& codes, const Line& line, float* w) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    w[i] = fmaf(mantissa_of_byte(codes.x, i), line.factor, line.term);
    w[4 + i] = fmaf(mantissa_of_byte(codes.y, i), line.factor, line.term);
  }
}

// Four codes at once, where a mantissa's top bits will be.
FERRUM_DEVICE uint32_t low_nibbles(uint32_t q) { return q << 3 & 0x78787878u; }
FERRUM_DEVICE uint32_t high_nibbles(uint32_t q) { return q >> 1 & 0x78787878u; }

template <>
struct Format<kQ4_K> {
  static constexpr int kBlock = 256, kBytes = 144, kSlices = 16;
  static FERRUM_DEVICE int first(int slice) { return slice / 4 * 64 + slice % 4 * 8; }
  static FERRUM_DEVICE int second(int slice) { return first(slice) + 32; }

  static FERRUM_DEVICE void unpack(const uint8_t* block, int slice, float (&w)[16]) {
    const uint4 head = load_16(block);
    const uint2 q = load_8(block + 16 + 8 * slice);
    const PartScales scales = part_floats(head, slice / 4, 8.0f);
    put_line({low_nibbles(q.x), low_nibbles(q.y)}, part_line(scales, 0), w);
    put_line({high_nibbles(q.x), high_nibbles(q.y)}, part_line(scales, 1), w + 8);
  }
};

// `high` is the word of fifth bits, shifted so that the wanted one is each byte's lowest.
FERRUM_DEVICE uint32_t low_fives(uint32_t q, uint32_t high) {
  return (q << 2 & 0x3c3c3c3cu) | (high << 6 & 0x40404040u);
}
FERRUM_DEVICE uint32_t high_fives(uint32_t q, uint32_t high) {
  return (q >> 2 & 0x3c3c3c3cu) | (high << 6 & 0x40404040u);
}

template <>
struct Format<kQ5_K> {
  static constexpr int kBlock = 256, kBytes = 176, kSlices = 16;
  static FERRUM_DEVICE int first(int slice) { return slice / 4 * 64 + slice % 4 * 8; }
  static FERRUM_DEVICE int second(int slice) { return first(slice) + 32; }

  static FERRUM_DEVICE void unpack(const uint8_t* block, int slice, float (&w)[16]) {
    const uint4 head = load_16(block);
    const uint2 q = load_8(block + 48 + 8 * slice);
    const int part = slice / 4;
    uint2 high = load_8(block + 16 + 8 * (slice % 4));
    high = {high.x >> 2 * part, high.y >> 2 * part};
    const PartScales scales = part_floats(head, part, 16.0f);
    put_line({low_fives(q.x, high.x), low_fives(q.y, high.y)}, part_line(scales, 0), w);
    put_line({high_fives(q.x, high.x >> 1), high_fives(q.y, high.y >> 1)}, part_line(scales, 1),
             w + 8);
  }
};

// Codes of 6 bits; `high` is shifted so that the wanted two bits are each byte's lowest.
FERRUM_DEVICE uint32_t low_sixes(uint32_t q, uint32_t high) {
  return (q & 0x0f0f0f0fu) | (high << 4 & 0x30303030u);
}
FERRUM_DEVICE uint32_t high_sixes(uint32_t q, uint32_t high) {
  return (q >> 4 & 0x0f0f0f0fu) | (high << 4 & 0x30303030u);
}

template <>
struct Format<kQ6_K> {
  static constexpr int kBlock = 256, kBytes = 210, kSlices = 16;
  static constexpr int kHigh = 128, kScales = 192, kD = 208;  // where the fields begin
  static FERRUM_DEVICE int first(int slice) { return slice / 8 * 128 + slice % 8 * 8; }
  static FERRUM_DEVICE int second(int slice) { return first(slice) + 64; }

  // (code - 32) * scale.
  static FERRUM_DEVICE Line line(const uint8_t* block, int value) {
    const float scale = half_to_float(load_u16_aligned(block + kD)) *
                        static_cast<float>(static_cast<int8_t>(block[kScales + value / 16]));
    return {64.0f * scale, -160.0f * scale};
  }

  static FERRUM_DEVICE void unpack(const uint8_t* block, int slice, float (&w)[16]) {
    const uint2 q = load_8_aligned2(block + 8 * slice);
    uint2 high = load_8_aligned2(block + kHigh + slice / 8 * 32 + slice % 4 * 8);
    const int shift = slice % 8 / 4 * 2;
    high = {high.x >> shift, high.y >> shift};
    put_line({low_sixes(q.x, high.x), low_sixes(q.y, high.y)}, line(block, first(slice)), w);
    put_line({high_sixes(q.x, high.x >> 4), high_sixes(q.y, high.y >> 4)},
             line(block, second(slice)), w + 8);
  }
};

template <>
struct Format<kQ6_K_planes> : Format<kQ6_K> {};  // of which the products know more

}  // namespace ferrum::cuda
