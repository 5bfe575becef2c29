// The i-quants: groups of 4 or 8 values are entries of a grid, with signs beside it. Scales such as
// d * (0.5 + s) / 4 are written d * (2 s + 1) / 8, which is the same number.

// Eight values at a time, as the bytes of one word (little-endian, as the file is).
constexpr uint64_t kOnes = 0x0101010101010101u;

FERRUM_CODEC uint64_t eight(const int8_t* values) {
  uint64_t word;
  memcpy(&word, values, sizeof word);
  return word;
}

// Two entries of a grid of four.
FERRUM_CODEC uint64_t eight(const int8_t* first, const int8_t* second) {
  uint32_t low, high;
  memcpy(&low, first, sizeof low);
  memcpy(&high, second, sizeof high);
  return low | static_cast<uint64_t>(high) << 32;
}

// Value i is negated where bit i of `signs` is set. The values are positive, so that neither the
// complement nor the one added to it reaches the next byte.
FERRUM_CODEC void put_signed(uint64_t values, uint32_t signs, int8_t* q) {
  const uint64_t bits = signs * kOnes & 0x8040201008040201u;
  const uint64_t negative = (bits + 0x7f * kOnes) >> 7 & kOnes;  // 1 where a bit is set
  const uint64_t result = (values ^ negative * 0xff) + negative;
  memcpy(q, &result, sizeof result);
}

FERRUM_CODEC float odd(uint32_t s) { return static_cast<float>(2 * s + 1); }

FERRUM_CODEC void decode(const BlockIQ2_XXS& x, int8_t* q, float* scale, float*) {
  const float d = to_float(x.d) * 0.125f;
  for (int group = 0; group < 8; ++group) {
    const uint8_t* indices = x.q + 8 * group;
    const uint32_t word = read_u32(indices + 4);
    for (int i = 0; i < 4; ++i)
      put_signed(eight(kGridIQ2_XXS[indices[i]]), kSignsOf7Bits[word >> (7 * i) & 127],
                 q + 32 * group + 8 * i);
    scale[2 * group] = scale[2 * group + 1] = d * odd(word >> 28);
  }
}

FERRUM_CODEC void half_group_scales(const uint8_t* nibbles, float d, float* scale) {
  for (int i = 0; i < 16; ++i) scale[i] = d * odd(nibbles[i / 2] >> (i % 2 * 4) & 15);
}

FERRUM_CODEC void decode(const BlockIQ2_XS& x, int8_t* q, float* scale, float*) {
  for (int i = 0; i < 32; ++i) {
    const uint32_t word = read_u16(x.q + 2 * i);
    put_signed(eight(kGridIQ2_XS[word & 511]), kSignsOf7Bits[word >> 9], q + 8 * i);
  }
  half_group_scales(x.scales, to_float(x.d) * 0.125f, scale);
}

FERRUM_CODEC void decode(const BlockIQ2_S& x, int8_t* q, float* scale, float*) {
  for (int i = 0; i < 32; ++i) {
    const int index = x.q[i] | (x.high[i / 4] >> (i % 4 * 2) & 3) << 8;
    put_signed(eight(kGridIQ2_S[index]), x.signs[i], q + 8 * i);
  }
  half_group_scales(x.scales, to_float(x.d) * 0.125f, scale);
}

FERRUM_CODEC void decode(const BlockIQ3_XXS& x, int8_t* q, float* scale, float*) {
  const float d = to_float(x.d) * 0.25f;
  for (int group = 0; group < 8; ++group) {
    const uint32_t word = read_u32(x.scales_and_signs + 4 * group);
    const uint8_t* indices = x.q + 8 * group;
    for (int i = 0; i < 4; ++i)
      put_signed(eight(kGridIQ3_XXS[indices[2 * i]], kGridIQ3_XXS[indices[2 * i + 1]]),
                 kSignsOf7Bits[word >> (7 * i) & 127], q + 32 * group + 8 * i);
    scale[2 * group] = scale[2 * group + 1] = d * odd(word >> 28);
  }
}

FERRUM_CODEC void decode(const BlockIQ3_S& x, int8_t* q, float* scale, float*) {
  const auto entry = [&](int i) {
    return kGridIQ3_S[x.q[i] | (x.high[i / 8] >> (i % 8) & 1) << 8];
  };
  for (int i = 0; i < 32; ++i)
    put_signed(eight(entry(2 * i), entry(2 * i + 1)), x.signs[i], q + 8 * i);
  const float d = to_float(x.d);
  for (int i = 0; i < 8; ++i)
    scale[2 * i] = scale[2 * i + 1] = d * odd(x.scales[i / 2] >> (i % 2 * 4) & 15);
}

// -1, 0 or 1, shifted by an eighth up or down: in eighths, -9 to 9.
// (The top bit is flipped meanwhile, which keeps every byte away from a carry.)
FERRUM_CODEC void shifted_entry(int index, bool down, int8_t* q) {
  const uint64_t flipped = eight(kGridIQ1[index]) ^ 0x80 * kOnes;
  const uint64_t result = (down ? flipped - kOnes : flipped + kOnes) ^ 0x80 * kOnes;
  memcpy(q, &result, sizeof result);
}

FERRUM_CODEC void decode(const BlockIQ1_S& x, int8_t* q, float* scale, float*) {
  const float d = to_float(x.d) * 0.125f;
  for (int group = 0; group < 8; ++group) {
    const uint32_t word = read_u16(x.high + 2 * group);
    for (int i = 0; i < 4; ++i) {
      const int index = static_cast<int>(x.q[4 * group + i] | (word >> (3 * i) & 7) << 8);
      shifted_entry(index, word & 0x8000, q + 32 * group + 8 * i);
    }
    scale[2 * group] = scale[2 * group + 1] = d * odd(word >> 12 & 7);
  }
}

// The float16 scale is spread over the top nibbles of the four words of small scales.
FERRUM_CODEC void decode(const BlockIQ1_M& x, int8_t* q, float* scale, float*) {
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= (read_u16(x.scales + 2 * i) >> 12) << (4 * i);
  const float d = half_to_float(bits) * 0.125f;
  for (int i = 0; i < 32; ++i) {
    const int high = x.high[i / 2] >> (i % 2 * 4) & 15;
    shifted_entry(x.q[i] | (high & 7) << 8, high & 8, q + 8 * i);
  }
  for (int i = 0; i < 16; ++i)
    scale[i] = d * odd(read_u16(x.scales + 2 * (i / 4)) >> (3 * (i % 4)) & 7);
}
