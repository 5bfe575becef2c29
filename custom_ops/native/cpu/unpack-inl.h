// How each format becomes a Tile: hand-written for the formats that models are made of.
//
// A Format names its type, kBias (stored code = code + bias), kMaxCode (the largest stored code, or
// kWide where codes fill a byte), kHalves and kMins as in codes.h, kTileBytes (one row's bytes of
// 256 values) and unpack(first row, bytes between rows, groups, tile).
//
// Vocabulary: transpose16 (16 bytes of each row to 4 quads), byte_and, or_, shift_left, shift_right
// (16-bit lanes, count as template argument: masks clear what crosses a byte), shift_right_32,
// shift_left_32, xor_, splat_byte, splat_int, table16 (16 bytes), look_up, half_lanes (the low 16
// bits of each lane as float16), gather_u16, gather_u32 (of each row), spread_bits.

constexpr int kWide = 255;

Ints low_nibbles(Ints v) { return and_(v, splat_byte(15)); }
Ints high_nibbles(Ints v) { return and_(shift_right<4>(v), splat_byte(15)); }

template <int kByte>
Floats byte_of(Ints v) {
  const Ints shifted = shift_right_32<8 * kByte>(v);
  return to_floats(kByte == 3 ? shifted : and_(shifted, splat_int(255)));
}

// out[0 .. 3] = factor * the four bytes of each lane.
void scaled_bytes(Ints v, Floats factor, Floats* out) {
  out[0] = mul(byte_of<0>(v), factor);
  out[1] = mul(byte_of<1>(v), factor);
  out[2] = mul(byte_of<2>(v), factor);
  out[3] = mul(byte_of<3>(v), factor);
}

// The same for bytes that stand for byte - offset.
void scaled_bytes_less(Ints v, int offset, Floats factor, Floats* out) {
  const Floats shift = broadcast(static_cast<float>(offset));
  out[0] = mul(sub(byte_of<0>(v), shift), factor);
  out[1] = mul(sub(byte_of<1>(v), shift), factor);
  out[2] = mul(sub(byte_of<2>(v), shift), factor);
  out[3] = mul(sub(byte_of<3>(v), shift), factor);
}

// 16 bytes of nibbles per row: low halves to quads[0 .. 3], high halves to quads[apart .. + 3].
void unpack_nibbles(const uint8_t* p, size_t stride, int apart, Ints* quads) {
  Ints raw[4];
  transpose16(p, stride, raw);
  for (int i = 0; i < 4; ++i) {
    quads[i] = low_nibbles(raw[i]);
    quads[apart + i] = high_nibbles(raw[i]);
  }
}

// Two bits of `v`, at bit kShift, moved to bit kTo.
template <int kFrom, int kTo>
Ints move_bits(Ints v) {
  if constexpr (kFrom < kTo) return shift_left<kTo - kFrom>(v);
  if constexpr (kFrom > kTo) return shift_right<kFrom - kTo>(v);
  return v;
}

template <int kFrom, int kTo, int kMask>
Ints pick_bits(Ints v) {
  return and_(move_bits<kFrom, kTo>(v), splat_byte(kMask));
}

// d and dmin of Q4_K and Q5_K with their twelve bytes of 6-bit scales and minimums.
void unpack_scales_k4(const uint8_t* p, size_t stride, Tile* tile) {
  Ints head[4];
  transpose16(p, stride, head);
  const Floats d = half_lanes(head[0]), dmin = half_lanes(shift_right_32<16>(head[0]));
  const Ints six = splat_byte(0x3f), two = splat_byte(0x30);
  scaled_bytes(and_(head[1], six), d, tile->scale);
  scaled_bytes(or_(low_nibbles(head[3]), and_(shift_right<2>(head[1]), two)), d, tile->scale + 4);
  scaled_bytes(and_(head[2], six), dmin, tile->min);
  scaled_bytes(or_(high_nibbles(head[3]), and_(shift_right<2>(head[2]), two)), dmin, tile->min + 4);
}

struct FormatQ4_K {
  static constexpr int kBias = 0, kMaxCode = 15, kTileBytes = 144;
  static constexpr bool kHalves = false, kMins = true;
  static void unpack(const uint8_t* p, size_t stride, int, Tile* tile) {
    unpack_scales_k4(p, stride, tile);
    for (int part = 0; part < 4; ++part) {
      unpack_nibbles(p + 16 + 32 * part, stride, 8, tile->q + 16 * part);
      unpack_nibbles(p + 32 + 32 * part, stride, 8, tile->q + 16 * part + 4);
    }
  }
};

struct FormatQ5_K {
  static constexpr int kBias = 0, kMaxCode = 31, kTileBytes = 176;
  static constexpr bool kHalves = false, kMins = true;
  template <int kPart>
  static void unpack_part(const uint8_t* p, size_t stride, const Ints* high, Ints* quads) {
    for (int half = 0; half < 2; ++half) {
      Ints raw[4];
      transpose16(p + 32 * kPart + 16 * half, stride, raw);
      for (int i = 0; i < 4; ++i) {
        const Ints bits = high[4 * half + i];
        Ints* to = quads + 16 * kPart + 4 * half + i;
        to[0] = or_(low_nibbles(raw[i]), pick_bits<2 * kPart, 4, 16>(bits));
        to[8] = or_(high_nibbles(raw[i]), pick_bits<2 * kPart + 1, 4, 16>(bits));
      }
    }
  }
  static void unpack(const uint8_t* p, size_t stride, int, Tile* tile) {
    unpack_scales_k4(p, stride, tile);
    Ints high[8];
    transpose16(p + 16, stride, high);
    transpose16(p + 32, stride, high + 4);
    unpack_part<0>(p + 48, stride, high, tile->q);
    unpack_part<1>(p + 48, stride, high, tile->q);
    unpack_part<2>(p + 48, stride, high, tile->q);
    unpack_part<3>(p + 48, stride, high, tile->q);
  }
};

struct FormatQ6_K {
  static constexpr int kBias = 32, kMaxCode = 63, kTileBytes = 210;
  static constexpr bool kHalves = true, kMins = false;
  // 128 values: 64 bytes of low nibbles, 32 bytes of two high bits for four groups.
  static void unpack_half(const uint8_t* low, const uint8_t* high, size_t stride, Ints* quads) {
    for (int half = 0; half < 2; ++half) {
      Ints bits[4], raw[4];
      transpose16(high + 16 * half, stride, bits);
      transpose16(low + 16 * half, stride, raw);
      Ints* to = quads + 4 * half;
      for (int i = 0; i < 4; ++i) {
        to[i] = or_(low_nibbles(raw[i]), pick_bits<0, 4, 0x30>(bits[i]));
        to[i + 16] = or_(high_nibbles(raw[i]), pick_bits<4, 4, 0x30>(bits[i]));
      }
      transpose16(low + 32 + 16 * half, stride, raw);
      for (int i = 0; i < 4; ++i) {
        to[i + 8] = or_(low_nibbles(raw[i]), pick_bits<2, 4, 0x30>(bits[i]));
        to[i + 24] = or_(high_nibbles(raw[i]), pick_bits<6, 4, 0x30>(bits[i]));
      }
    }
  }
  static void unpack(const uint8_t* p, size_t stride, int, Tile* tile) {
    unpack_half(p, p + 128, stride, tile->q);
    unpack_half(p + 64, p + 160, stride, tile->q + 32);
    const Floats d = half_lanes(gather_u16(p + 208, stride));
    Ints scales[4];
    transpose16(p + 192, stride, scales);
    for (int i = 0; i < 4; ++i)  // signed bytes, as unsigned ones 128 higher
      scaled_bytes_less(xor_(scales[i], splat_byte(0x80)), 128, d, tile->scale + 4 * i);
  }
};

// The four two-bit fields of 32 bytes per row, to 32 quads; `Pick` adds what lies elsewhere.
struct FormatQ2_K {
  static constexpr int kBias = 0, kMaxCode = 3, kTileBytes = 84;
  static constexpr bool kHalves = true, kMins = true;
  static void unpack(const uint8_t* p, size_t stride, int, Tile* tile) {
    for (int part = 0; part < 4; ++part) {  // 16 bytes: half of each of four groups
      Ints raw[4];
      transpose16(p + 16 + 16 * part, stride, raw);
      Ints* to = tile->q + 32 * (part / 2) + 4 * (part % 2);
      for (int i = 0; i < 4; ++i) {
        to[i] = pick_bits<0, 0, 3>(raw[i]);
        to[i + 8] = pick_bits<2, 0, 3>(raw[i]);
        to[i + 16] = pick_bits<4, 0, 3>(raw[i]);
        to[i + 24] = pick_bits<6, 0, 3>(raw[i]);
      }
    }
    const Ints halves = gather_u32(p + 80, stride);
    const Floats d = half_lanes(halves), dmin = half_lanes(shift_right_32<16>(halves));
    Ints scales[4];
    transpose16(p, stride, scales);
    for (int i = 0; i < 4; ++i) {
      scaled_bytes(low_nibbles(scales[i]), d, tile->scale + 4 * i);
      scaled_bytes(high_nibbles(scales[i]), dmin, tile->min + 4 * i);
    }
  }
};

struct FormatQ3_K {
  static constexpr int kBias = 4, kMaxCode = 7, kTileBytes = 110;
  static constexpr bool kHalves = true, kMins = false;
  template <int kPart>  // 128 values: two-bit fields of 32 bytes, and four bits of the high plane
  static void unpack_part(const uint8_t* p, size_t stride, const Ints* high, Ints* quads) {
    for (int half = 0; half < 2; ++half) {
      Ints raw[4];
      transpose16(p + 32 * kPart + 16 * half, stride, raw);
      for (int i = 0; i < 4; ++i) {
        const Ints bits = high[4 * half + i];
        Ints* to = quads + 32 * kPart + 4 * half + i;
        to[0] = or_(pick_bits<0, 0, 3>(raw[i]), pick_bits<4 * kPart, 2, 4>(bits));
        to[8] = or_(pick_bits<2, 0, 3>(raw[i]), pick_bits<4 * kPart + 1, 2, 4>(bits));
        to[16] = or_(pick_bits<4, 0, 3>(raw[i]), pick_bits<4 * kPart + 2, 2, 4>(bits));
        to[24] = or_(pick_bits<6, 0, 3>(raw[i]), pick_bits<4 * kPart + 3, 2, 4>(bits));
      }
    }
  }
  static void unpack(const uint8_t* p, size_t stride, int, Tile* tile) {
    Ints high[8], tail[4];
    transpose16(p, stride, high);
    transpose16(p + 16, stride, high + 4);
    unpack_part<0>(p + 32, stride, high, tile->q);
    unpack_part<1>(p + 32, stride, high, tile->q);
    transpose16(p + 94, stride, tail);  // the block's last 16 bytes: 2 codes, 12 scales, d
    const Floats d = half_lanes(shift_right_32<16>(tail[3]));
    const Ints first = or_(shift_right_32<16>(tail[0]), shift_left_32<16>(tail[1]));
    const Ints second = or_(shift_right_32<16>(tail[1]), shift_left_32<16>(tail[2]));
    const Ints third = or_(shift_right_32<16>(tail[2]), shift_left_32<16>(tail[3]));
    const auto put = [&](Ints low, Ints top, int at) {
      scaled_bytes_less(or_(low, top), 32, d, tile->scale + at);
    };
    put(low_nibbles(first), pick_bits<0, 4, 0x30>(third), 0);
    put(low_nibbles(second), pick_bits<2, 4, 0x30>(third), 4);
    put(high_nibbles(first), pick_bits<4, 4, 0x30>(third), 8);
    put(high_nibbles(second), pick_bits<6, 4, 0x30>(third), 12);
  }
};

struct FormatIQ4_XS {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 136;
  static constexpr bool kHalves = false, kMins = false;
  template <int kPair>  // two groups' scales: a byte of low nibbles, four bits of the high word
  static void unpack_scales(Ints low, Ints high, Floats d, Floats* scale) {
    const Ints byte = shift_right_32<8 * kPair>(low), bits = shift_right_32<4 * kPair>(high);
    const Floats offset = broadcast(32.0f);
    const Ints even = or_(and_(byte, splat_int(15)), and_(shift_left_32<4>(bits), splat_int(0x30)));
    const Ints odd = or_(and_(shift_right_32<4>(byte), splat_int(15)),
                         and_(shift_left_32<2>(bits), splat_int(0x30)));
    scale[2 * kPair] = mul(sub(to_floats(even), offset), d);
    scale[2 * kPair + 1] = mul(sub(to_floats(odd), offset), d);
  }
  static void unpack(const uint8_t* p, size_t stride, int, Tile* tile) {
    Ints head[4];
    transpose16(p, stride, head);
    const Floats d = half_lanes(head[0]);
    const Ints high = shift_right_32<16>(head[0]);
    unpack_scales<0>(head[1], high, d, tile->scale);
    unpack_scales<1>(head[1], high, d, tile->scale);
    unpack_scales<2>(head[1], high, d, tile->scale);
    unpack_scales<3>(head[1], high, d, tile->scale);
    const Ints values = table16(kValuesIQ4, kWideBias);
    for (int g = 0; g < kTileGroups; ++g) {
      unpack_nibbles(p + 8 + 16 * g, stride, 4, tile->q + 8 * g);
      for (int i = 0; i < 8; ++i) tile->q[8 * g + i] = look_up(values, tile->q[8 * g + i]);
    }
  }
};
