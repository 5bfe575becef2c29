// Blocks decoded to float16 as tensor cores take them, with few instructions.
//
//   Halves<type>::prepare(chunk, scales)           once per row and chunk: what slices share
//   Halves<type>::unpack(block, scales, slice, w)  a slice of Format<type>, 16 values in 8 pairs
//
// HalvesLessOffsets<type> may leave out (kOffsets) what is added to each of 16 or 32 values alike,
// a minimum or what makes codes signed: an instruction less for every pair. It is added once,
// multiplied with the means of 16 activations.
//
//   offsets_of_means(scales, lane, pairs)   16 times those that meet the means which lane 0 to 3 of
//                                           a quad has of a block (mean_index)
//
// Pairs are made of every other value: of each four neighbours the first and the third are one
// pair, the second and the fourth the next, for that is how masks find them in packed codes.
// Activations are stored to match (paired_index).
//
// An integer below 1024 becomes a float16 by landing in the mantissa of 1024, which is subtracted
// again without rounding, or by the multiplication with its scale, of which 1024 times as much is
// subtracted: so a scale of 64 and more is beyond float16. A weight differs from its float32 value
// by the rounding of the scale to float16, that of the minimum and its own; types without a Halves
// of their own are rounded once.
#pragma once

#include "cuda/kernels/formats.h"
#include "cuda/kernels/halves_codes.h"

namespace ferrum::cuda {

template <int kType>
struct Halves {
  template <class Block>
  static FERRUM_DEVICE void prepare(const Block&, uint8_t*) {}
  template <class Block>
  static FERRUM_DEVICE void unpack(const Block& block, const uint8_t*, int slice,
                                   uint32_t (&pairs)[8]) {
    float w[16];
    Format<kType>::unpack(block, slice, w);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[2 * i] = to_halves(w[4 * i], w[4 * i + 2]);
      pairs[2 * i + 1] = to_halves(w[4 * i + 1], w[4 * i + 3]);
    }
  }
};

template <>
struct Halves<kF16> {
  static FERRUM_DEVICE void prepare(const uint8_t*, uint8_t*) {}
  static FERRUM_DEVICE void unpack(const uint8_t* block, const uint8_t*, int,
                                   uint32_t (&pairs)[8]) {
    uint32_t words[8];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint8_t* const from = block + 16 * i;
      const uint4 four =
          is_aligned(block, 16)
              ? load_16(from)
              : make_uint4(load_u32_aligned2(from), load_u32_aligned2(from + 4),
                           load_u32_aligned2(from + 8), load_u32_aligned2(from + 12));
      words[4 * i] = four.x, words[4 * i + 1] = four.y;
      words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[2 * i] = pick_bytes(words[2 * i], words[2 * i + 1], 0x5410u);
      pairs[2 * i + 1] = pick_bytes(words[2 * i], words[2 * i + 1], 0x7632u);
    }
  }
};

template <int kType>
struct HalvesLessOffsets : Halves<kType> {
  static constexpr bool kOffsets = false;
};

}  // namespace ferrum::cuda

#include "cuda/kernels/halves_k.h"
#include "cuda/kernels/halves_small.h"
