// Format of the blocks of 32 and of IQ4_XS, whose codes are looked up.
#pragma once

#include "cuda/kernels/formats_k.h"
#include "iq_tables.inc"

namespace ferrum::cuda {

template <>
struct Format<kQ8_0> {
  static constexpr int kBlock = 32, kBytes = 34, kSlices = 2;
  static FERRUM_DEVICE int first(int slice) { return 16 * slice; }
  static FERRUM_DEVICE int second(int slice) { return 16 * slice + 8; }

  // An int8 in the last bits of a mantissa of 2^23, shifted to be positive.
  static FERRUM_DEVICE float code(uint32_t q, int i) {
    const uint32_t byte = 0x7440u | static_cast<uint32_t>(i);
    const uint32_t bits = pick_bytes(q ^ 0x80808080u, 0x4b000000u, byte);
    return bits_to_float(bits) - (0x1p23f + 128.0f);
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, int slice, float (&w)[16]) {
    const float scale = half_to_float(load_u16_aligned(block));
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const uint32_t q = load_u32_aligned2(block + 2 + 16 * slice + 4 * word);
#pragma unroll
      for (int i = 0; i < 4; ++i) w[4 * word + i] = scale * code(q, i);
    }
  }
};

template <>
struct Format<kQ8_0_planes> : Format<kQ8_0> {};  // of which the products know more

// Codes in nibbles: value i in the low one of byte i, value i + 16 in the high one.
struct Nibbles {
  static constexpr int kBlock = 32, kSlices = 2;
  static FERRUM_DEVICE int first(int slice) { return 8 * slice; }
  static FERRUM_DEVICE int second(int slice) { return 16 + 8 * slice; }
};

template <>
struct Format<kQ4_0> : Nibbles {
  static constexpr int kBytes = 18;
  static FERRUM_DEVICE void unpack(const uint8_t* block, int slice, float (&w)[16]) {
    const float scale = half_to_float(load_u16_aligned(block));
    const Line line = {8.0f * scale, -24.0f * scale};  // (code - 8) * scale
    const uint2 q = load_8_aligned2(block + 2 + 8 * slice);
    put_line({low_nibbles(q.x), low_nibbles(q.y)}, line, w);
    put_line({high_nibbles(q.x), high_nibbles(q.y)}, line, w + 8);
  }
};

// A table of 16 int8 in four registers.
struct Table16 {
  uint32_t words[4];
};
FERRUM_DEVICE constexpr Table16 table16(const int8_t (&values)[16]) {
  Table16 table = {};
  for (int i = 0; i < 16; ++i)
    table.words[i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(values[i])) << 8 * (i % 4);
  return table;
}

// The entries that the four nibbles of the lower half of `q` name, a byte each.
FERRUM_DEVICE uint32_t look_up_4(const Table16& table, uint32_t q) {
  const uint32_t index = q & 0x7777u;
  const uint32_t lower = pick_bytes(table.words[0], table.words[1], index);
  const uint32_t upper = pick_bytes(table.words[2], table.words[3], index);
  return pick_bytes(lower, upper, 0x3210u | (q >> 1 & 0x4444u));
}

// Eight bytes of codes: w[0 .. 8) by the low nibbles, w[8 .. 16) by the high ones.
FERRUM_DEVICE void put_entries(const Table16& table, const uint2& q, float scale, float (&w)[16]) {
  const uint32_t words[2] = {q.x, q.y};
#pragma unroll
  for (int word = 0; word < 2; ++word) {
    // Entries of nibbles 0 to 3 and 4 to 7: of bytes 0, 0, 1, 1 and 2, 2, 3, 3.
    const uint32_t front = look_up_4(table, words[word] & 0xffff);
    const uint32_t back = look_up_4(table, words[word] >> 16);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      w[4 * word + i] = scale * signed_byte_to_float(front, 2 * i);
      w[4 * word + 2 + i] = scale * signed_byte_to_float(back, 2 * i);
      w[8 + 4 * word + i] = scale * signed_byte_to_float(front, 2 * i + 1);
      w[8 + 4 * word + 2 + i] = scale * signed_byte_to_float(back, 2 * i + 1);
    }
  }
}

template <>
struct Format<kMXFP4> : Nibbles {
  static constexpr int kBytes = 17;
  // Halved, for the table holds doubled values. The two smallest are subnormal.
  static FERRUM_DEVICE float scale(uint32_t exponent) {
    return bits_to_float(exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23);
  }
  static FERRUM_DEVICE void put(const uint2& q, uint32_t exponent, float (&w)[16]) {
    constexpr Table16 table = table16(kValuesFP4);
    put_entries(table, q, scale(exponent), w);
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, int slice, float (&w)[16]) {
    put(load_8_unaligned(block + 1 + 8 * slice), block[0], w);
  }
};

template <>
struct Format<kMXFP4_planes> : Format<kMXFP4> {
  template <class Block>
  static FERRUM_DEVICE void unpack(const Block& block, int slice, float (&w)[16]) {
    put(load_8(block.template field<1>() + 8 * slice), *block.template field<0>(), w);
  }
};

template <>
struct Format<kIQ4_XS> {
  static constexpr int kBlock = 256, kBytes = 136, kSlices = 16;
  static FERRUM_DEVICE int first(int slice) { return slice / 2 * 32 + slice % 2 * 8; }
  static FERRUM_DEVICE int second(int slice) { return first(slice) + 16; }

  // Of a group of 32.
  static FERRUM_DEVICE float scale(const uint2& head, int group) {
    const uint32_t low = head.y >> 4 * group & 15, high = head.x >> (16 + 2 * group) & 3;
    const int sc = static_cast<int>(low | high << 4) - 32;
    return half_to_float(head.x & 0xffff) * static_cast<float>(sc);
  }
  static FERRUM_DEVICE void unpack(const uint8_t* block, int slice, float (&w)[16]) {
    constexpr Table16 table = table16(kValuesIQ4);
    put_entries(table, load_8(block + 8 + 8 * slice), scale(load_8(block), slice / 2), w);
  }
};

}  // namespace ferrum::cuda
