// Blocks unpacked to small integers as tensor cores take them, their scales left for the sums:
// fewer operations for a weight than Halves, and some for each sum instead, which pays where sums
// are few: in tiles of 8.
//
//   Codes<type>::kThere                       whether the type has them; its chunks then are one
//                                             block each, at a multiple of 16
//   prepare(block, row, lines)                once per row and block: its lines
//   unpack(block, slice, w)                   a slice of Format<type> as 8 pairs, in Halves' order:
//                                             four of the stage's first group, four of the second
//   lines(lines, row, part)                   what makes weights of those
//
// A stage of 64 values is two groups of 32, each with a scale of its own.
#pragma once

#include "cuda/kernels/halves.h"

namespace ferrum::cuda {

// weight = factor * number + term, of both groups of a stage.
struct GroupLines {
  float factor[2], term[2];
};

template <int kType>
struct Codes {
  static constexpr bool kThere = false;
  static constexpr int kLineBytes = 0;
};

// Numbers are 1024 + code in the first group and 1024 + 16 * code in the second: a float16's
// mantissa with the nibble where it lies.
template <>
struct Codes<kQ4_K> {
  static constexpr bool kThere = true;
  static constexpr int kLineBytes = 64;  // of a row: 16 for each of the 4 parts

  // Rows lie at multiples of 64 bytes, so parts change places for 8 of them to fill all banks.
  static FERRUM_DEVICE int place(int row, int part) { return 16 * (part ^ (row / 2 & 3)); }

  static FERRUM_DEVICE void prepare(const uint8_t* block, int row, uint8_t* lines) {
    const uint4 head = load_16(block);
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const PartScales scales = part_floats(head, part, 1.0f);
      const float low = scales.factor[0], high = scales.factor[1] / 16.0f;
      *reinterpret_cast<float4*>(lines + place(row, part)) = make_float4(
          low, high, fmaf(-1024.0f, low, -scales.min[0]), fmaf(-1024.0f, high, -scales.min[1]));
    }
  }

  static FERRUM_DEVICE GroupLines lines(const uint8_t* lines, int row, int part) {
    const float4 v = *reinterpret_cast<const float4*>(lines + place(row, part));
    return {{v.x, v.y}, {v.z, v.w}};
  }

  static FERRUM_DEVICE void unpack(const uint8_t* block, int slice, uint32_t (&pairs)[8]) {
    const uint2 q = load_8(block + 16 + 8 * slice);
    const uint32_t words[4] = {q.x, q.x >> 8, q.y, q.y >> 8};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = above_1024(words[i], 0x000f000fu);
      pairs[4 + i] = above_1024(words[i], 0x00f000f0u);
    }
  }
};

}  // namespace ferrum::cuda
