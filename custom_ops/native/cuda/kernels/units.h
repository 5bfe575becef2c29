// What one lane multiplies at a time in the products with few columns: a unit of a row's blocks.
//
// Of the types in UnitOf's specializations a unit is up to 64 values in a few groups of one scale.
// Its codes meet x as floats 2 + code / 2^n (or as integers), summed from -2 times the sum of x on;
// scale and minimum meet only the group's sums. So a weight costs little more than a byte
// permutation and a multiplication, which is what keeps the products near the memory's rate. Of the
// other types a unit is a Format's slice.
//
//   kBlock, kBytes, kValues, kPerBlock   of a block; values of a unit, units of a block (2^n)
//   kAnyK                                rows need not be whole blocks: a float type's
//   kGroups, kWords                      groups of a unit; words of four codes in each
//   Raw, load(block, unit)               the unit's bytes in registers, still on their way
//   begin(unit)                          the unit's first value in its block
//   at(group, word)                      from there, where four neighbours lie in a StagedX
//   codes(raw, unit, group, word)        four codes, and
//   code(codes, i)                       each of them, as it meets x
//   kZero                                what a code of 0 is there
//   scales(raw, unit)                    factor[group] and, where kMins, min[group]
//   sum(sums, group)                     of x over a group; `sums` are those from the unit on
#pragma once

#include "cuda/kernels/formats.h"
#include "cuda/kernels/staged_x.h"
#include "cuda/kernels/unit_shapes.h"

namespace ferrum::cuda {

template <int kType>
struct UnitOf {
  using F = Format<kType>;
  static constexpr bool kIsSlice = true, kSums = false, kAnyK = F::kBlock == 16;
  static constexpr int kBlock = F::kBlock, kBytes = F::kBytes;
  static constexpr int kValues = 16, kPerBlock = F::kSlices;
  struct Raw {
    BlockOf<kType> block;
  };
  static FERRUM_DEVICE Raw load(BlockOf<kType> block, int) { return {block}; }
  static FERRUM_DEVICE void unpack(const Raw& raw, int slice, float (&w)[16]) {
    F::unpack(raw.block, slice, w);
  }
};

template <>
struct UnitOf<kMXFP4_planes> {
  using F = Format<kMXFP4_planes>;
  static constexpr bool kIsSlice = true, kSums = false, kAnyK = false;
  static constexpr int kBlock = F::kBlock, kBytes = F::kBytes;
  static constexpr int kValues = 16, kPerBlock = F::kSlices;
  struct Raw {
    uint2 q;
    uint32_t exponent;
  };
  static FERRUM_DEVICE Raw load(const PlanesBlock<kMXFP4_planes>& block, int slice) {
    return {load_8(block.field<1>() + 8 * slice), *block.field<0>()};
  }
  static FERRUM_DEVICE void unpack(const Raw& raw, int, float (&w)[16]) {
    F::put(raw.q, raw.exponent, w);
  }
};

// Q4_K and Q5_K: 64 values, group 0 in the low nibbles of 32 bytes, group 1 in the high ones.
struct UnitOfParts {
  static constexpr bool kIsSlice = false, kSums = true, kMins = true, kAnyK = false;
  static constexpr float kZero = 2.0f;
  static constexpr int kBlock = 256, kValues = 64, kPerBlock = 4, kGroups = 2, kWords = 8;
  static FERRUM_DEVICE int begin(int unit) { return 64 * unit; }
  static FERRUM_DEVICE int at(int group, int word) { return 32 * group + 4 * word; }
  static FERRUM_DEVICE float code(uint32_t codes, int i) { return mantissa_of_byte(codes, i); }
  static FERRUM_DEVICE float sum(const float* sums, int group) {
    return sums[2 * group] + sums[2 * group + 1];
  }
};

template <>
struct UnitOf<kQ4_K> : UnitOfParts {
  static constexpr int kBytes = 144;
  struct Raw {
    uint4 head, q[2];
  };
  static FERRUM_DEVICE Raw load(const uint8_t* block, int unit) {
    const uint8_t* const q = block + 16 + 32 * unit;
    return {load_16(block), {load_16(q), load_16(q + 16)}};
  }
  static FERRUM_DEVICE uint32_t codes(const Raw& raw, int, int group, int word) {
    const uint32_t q = word_of(raw.q[word / 4], word % 4);
    return group == 0 ? low_nibbles(q) : high_nibbles(q);
  }
  static FERRUM_DEVICE PartScales scales(const Raw& raw, int unit) {
    return part_floats(raw.head, unit, 8.0f);
  }
};

template <>
struct UnitOf<kQ5_K> : UnitOfParts {
  static constexpr int kBytes = 176;
  struct Raw {
    uint4 head, high[2], q[2];
  };
  static FERRUM_DEVICE Raw load(const uint8_t* block, int unit) {
    const uint8_t* const q = block + 48 + 32 * unit;
    return {
        load_16(block), {load_16(block + 16), load_16(block + 32)}, {load_16(q), load_16(q + 16)}};
  }
  static FERRUM_DEVICE uint32_t codes(const Raw& raw, int unit, int group, int word) {
    const uint32_t q = word_of(raw.q[word / 4], word % 4);
    const uint32_t high = word_of(raw.high[word / 4], word % 4) >> (2 * unit);
    return group == 0 ? low_fives(q, high) : high_fives(q, high >> 1);
  }
  static FERRUM_DEVICE PartScales scales(const Raw& raw, int unit) {
    return part_floats(raw.head, unit, 16.0f);
  }
};

// Whether an even address is no multiple of four.
FERRUM_DEVICE bool is_odd(const uint8_t* p) { return !is_aligned(p, 4); }

// N words from an even address, as they lie: N + 1 aligned ones, the first from that address or two
// bytes in front of it.
template <int N>
struct EvenWords {
  uint32_t words[N + 1];
  // `pick` is 0x3210, or, from an odd address, 0x5432.
  FERRUM_DEVICE uint32_t word(int i, uint32_t pick) const {
    return pick_bytes(words[i], words[i + 1], pick);
  }
};
template <int N>
FERRUM_DEVICE EvenWords<N> load_even(const uint8_t* aligned) {
  const auto* const from = reinterpret_cast<const uint32_t*>(aligned);
  EvenWords<N> to;
#pragma unroll
  for (int i = 0; i <= N; ++i) to.words[i] = from[i];
  return to;
}

// 64 values: 16 bytes of low nibbles, 16 bytes 32 further on, and 16 bytes of both's high bits.
template <>
struct UnitOf<kQ6_K> {
  using F = Format<kQ6_K>;
  static constexpr bool kIsSlice = false, kSums = true, kMins = false, kAnyK = false;
  static constexpr float kZero = 2.5f;  // codes are 32 too high
  static constexpr int kBlock = 256, kBytes = 210;
  static constexpr int kValues = 64, kPerBlock = 4, kGroups = 4, kWords = 4;
  struct Raw {
    EvenWords<4> low[2], high;
    int8_t scales[4];
    uint16_t d;
    uint32_t pick;
  };
  static FERRUM_DEVICE int begin(int unit) { return unit / 2 * 128 + unit % 2 * 16; }
  static FERRUM_DEVICE int at(int group, int word) { return 32 * group + group / 2 * 4 + 4 * word; }
  static FERRUM_DEVICE float sum(const float* sums, int group) { return sums[2 * group]; }

  static FERRUM_DEVICE Raw load(const uint8_t* block, int unit) {
    const int half = unit / 2, side = unit % 2 * 16;
    const uint8_t* const aligned = is_odd(block) ? block - 2 : block;
    const uint8_t* const low = aligned + 64 * half + side;
    const uint8_t* const scales = block + F::kScales + 8 * half + unit % 2;
    Raw raw;
    raw.low[0] = load_even<4>(low);
    raw.low[1] = load_even<4>(low + 32);
    raw.high = load_even<4>(aligned + F::kHigh + 32 * half + side);
#pragma unroll
    for (int group = 0; group < 4; ++group)
      raw.scales[group] = static_cast<int8_t>(scales[2 * group]);
    raw.d = *reinterpret_cast<const uint16_t*>(block + F::kD);
    raw.pick = is_odd(block) ? 0x5432u : 0x3210u;
    return raw;
  }
  static FERRUM_DEVICE uint32_t codes(const Raw& raw, int, int group, int word) {
    const uint32_t q = raw.low[group % 2].word(word, raw.pick);
    const uint32_t high = raw.high.word(word, raw.pick) >> (2 * group);
    return group < 2 ? low_sixes(q, high) : high_sixes(q, high);
  }
  static FERRUM_DEVICE float code(uint32_t codes, int i) { return mantissa_of_byte(codes, i); }
  struct Scales {
    float factor[4];
  };
  static FERRUM_DEVICE Scales scales(const Raw& raw, int) {
    const float d = 64.0f * half_to_float(raw.d);
    Scales scales;
#pragma unroll
    for (int group = 0; group < 4; ++group)
      scales.factor[group] = d * static_cast<float>(raw.scales[group]);
    return scales;
  }
};

template <>
struct UnitOf<kQ6_K_planes> : UnitOf<kQ6_K> {
  struct Raw {
    uint4 low[2], high;
    uint2 scales;  // of the unit's half of the block
    uint16_t d;
  };
  static FERRUM_DEVICE Raw load(const PlanesBlock<kQ6_K_planes>& block, int unit) {
    const int half = unit / 2, side = unit % 2 * 16;
    const uint8_t* const low = block.field<0>() + 64 * half + side;
    Raw raw;
    raw.low[0] = load_16(low);
    raw.low[1] = load_16(low + 32);
    raw.high = load_16(block.field<1>() + 32 * half + side);
    raw.scales = load_8(block.field<2>() + 8 * half);
    raw.d = *reinterpret_cast<const uint16_t*>(block.field<3>());
    return raw;
  }
  static FERRUM_DEVICE uint32_t codes(const Raw& raw, int, int group, int word) {
    const uint32_t q = word_of(raw.low[group % 2], word);
    const uint32_t high = word_of(raw.high, word) >> (2 * group);
    return group < 2 ? low_sixes(q, high) : high_sixes(q, high);
  }
  static FERRUM_DEVICE Scales scales(const Raw& raw, int unit) {
    const float d = 64.0f * half_to_float(raw.d);
    const int side = unit % 2;
    Scales scales;
#pragma unroll
    for (int group = 0; group < 4; ++group)
      scales.factor[group] =
          d * signed_byte_to_float(group < 2 ? raw.scales.x : raw.scales.y, group % 2 * 2 + side);
    return scales;
  }
};

// A block: 32 values of one scale.
template <>
struct UnitOf<kQ8_0> {
  using F = Format<kQ8_0>;
  static constexpr bool kIsSlice = false, kSums = false, kMins = false, kAnyK = false;
  static constexpr int kBlock = 32, kBytes = 34;
  static constexpr int kValues = 32, kPerBlock = 1, kGroups = 1, kWords = 8;
  struct Raw {
    uint32_t words[9];  // the scale and q, from two bytes in front of the block where that is odd
    uint32_t pick;
  };
  static FERRUM_DEVICE int begin(int) { return 0; }
  static FERRUM_DEVICE int at(int, int word) { return 4 * word; }

  static FERRUM_DEVICE Raw load(const uint8_t* block, int) {
    const bool odd = is_odd(block);
    const auto* const from = reinterpret_cast<const uint32_t*>(odd ? block - 2 : block);
    Raw raw;
    raw.pick = odd ? 0x7654u : 0x5432u;
#pragma unroll
    for (int i = 0; i < 8; ++i) raw.words[i] = from[i];
    // Of an even block the last word ends after the block, and only its first half is needed.
    raw.words[8] = odd ? from[8] : load_u16_aligned(block + 32);
    return raw;
  }
  static FERRUM_DEVICE uint32_t codes(const Raw& raw, int, int, int word) {
    return pick_bytes(raw.words[word], raw.words[word + 1], raw.pick);
  }
  static FERRUM_DEVICE float code(uint32_t codes, int i) { return F::code(codes, i); }
  struct Scales {
    float factor[1];
  };
  static FERRUM_DEVICE Scales scales(const Raw& raw, int) {
    return {{half_to_float(pick_bytes(raw.words[0], 0, raw.pick - 0x2222u) & 0xffff)}};
  }
};

template <>
struct UnitOf<kQ8_0_planes> : UnitOf<kQ8_0> {
  struct Raw {
    uint4 q[2];
    uint16_t d;
  };
  static FERRUM_DEVICE Raw load(const PlanesBlock<kQ8_0_planes>& block, int) {
    const uint8_t* const q = block.field<1>();
    return {{load_16(q), load_16(q + 16)}, *reinterpret_cast<const uint16_t*>(block.field<0>())};
  }
  static FERRUM_DEVICE uint32_t codes(const Raw& raw, int, int, int word) {
    return word_of(raw.q[word / 4], word % 4);
  }
  static FERRUM_DEVICE Scales scales(const Raw& raw, int) { return {{half_to_float(raw.d)}}; }
};

#define FERRUM_SHAPE(name)                                                \
  static_assert(UnitOf<k##name>::kValues == unit_shape(k##name).values && \
                UnitOf<k##name>::kPerBlock == unit_shape(k##name).per_block);
FERRUM_CUDA_FORMATS(FERRUM_SHAPE)
#undef FERRUM_SHAPE

}  // namespace ferrum::cuda
