// Super-blocks of 256 values to tiles: the k-quants and IQ4_XS. See unpack-inl.h.

// d and dmin of Q4_K and Q5_K with their twelve bytes of 6-bit scales and minimums, four to a lane.
struct ScalesK4 {
  Ints scales[2], mins[2];
  Floats d, dmin;

  FERRUM_INLINE explicit ScalesK4(const Rows& rows) {
    Ints head[4];
    transpose16(rows, 0, head);
    const Ints six = splat_byte(0x3f), two = splat_byte(0x30);
    scales[0] = and_(head[1], six);
    scales[1] = or_(low_nibbles(head[3]), and_(shift_right<2>(head[1]), two));
    mins[0] = and_(head[2], six);
    mins[1] = or_(high_nibbles(head[3]), and_(shift_right<2>(head[2]), two));
    d = half_lanes(head[0]);
    dmin = half_lanes(shift_right_32<16>(head[0]));
  }

  // Those of groups 2 kPair and 2 kPair + 1 as floats, where the odd group's codes are kOdd times
  // too large.
  template <int kPair, int kOdd, class Sink>
  FERRUM_INLINE void put(Sink* sink) const {
    constexpr int kEven = kPair % 2 * 2;
    const Ints scale = scales[kPair / 2], min = mins[kPair / 2];
    const Floats odd = kOdd == 1 ? d : mul(d, broadcast(1.0f / kOdd));
    sink->scale[2 * kPair] = mul(byte_of<kEven>(scale), d);
    sink->scale[2 * kPair + 1] = mul(byte_of<kEven + 1>(scale), odd);
    sink->min[2 * kPair] = mul(byte_of<kEven>(min), dmin);
    sink->min[2 * kPair + 1] = mul(byte_of<kEven + 1>(min), dmin);
  }

  // All of them as integers, where the codes of odd groups are kOdd times too large: even
  // groups' factors make up for it, and d undoes it for all of them.
  template <int kOdd>
  FERRUM_INLINE void store(TileIntegers* tile) const {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Ints* const factor = tile->factor + 4 * half;
      factor[0] = byte_lane<0, kOdd>(scales[half]);
      factor[1] = byte_lane<1, 1>(scales[half]);
      factor[2] = byte_lane<2, kOdd>(scales[half]);
      factor[3] = byte_lane<3, 1>(scales[half]);
      tile->offset[2 * half] = and_(mins[half], splat_int(0x00ff00ff));  // groups 0 and 2
      tile->offset[2 * half + 1] = shift_right<8>(mins[half]);           // groups 1 and 3
    }
    tile->d = kOdd == 1 ? d : mul(d, broadcast(1.0f / kOdd));
    tile->dmin = dmin;
  }
};

template <bool kAsIntegers>
struct FormatQ4_K {
  static constexpr int kBias = 0, kMaxCode = 15, kTileBytes = 144, kOpen = 2;
  static constexpr bool kHalves = false, kMins = true, kIntegers = kAsIntegers;
  template <int kPair, class Sink>  // low nibbles are the even group, high ones the odd
  static FERRUM_INLINE void unpack_pair(const Rows& rows, const ScalesK4& scales, Sink* sink) {
    if (!kIntegers) scales.put<kPair, kTopTimes>(sink);
    sink->open(2 * kPair, 2);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Ints raw[4];
      transpose16(rows, 16 + 32 * kPair + 16 * half, raw);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int to = 16 * kPair + 4 * half + i;
        sink->put(0, to, low_nibbles(raw[i]));
        sink->put(1, to + 8, top_nibbles(raw[i]));
      }
    }
    sink->close(2 * kPair, 2);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    const ScalesK4 scales(rows);
    if (kIntegers) scales.store<kTopTimes>(&sink->integers());
    unpack_pair<0>(rows, scales, sink);
    unpack_pair<1>(rows, scales, sink);
    unpack_pair<2>(rows, scales, sink);
    unpack_pair<3>(rows, scales, sink);
  }
};

template <bool kAsIntegers>
struct FormatQ5_K {
  static constexpr int kBias = 0, kMaxCode = 31, kTileBytes = 176, kOpen = 2;
  static constexpr bool kHalves = false, kMins = true, kIntegers = kAsIntegers;
  template <int kPair, class Sink>
  static FERRUM_INLINE void unpack_pair(const Rows& rows, const ScalesK4& scales, const Ints* high,
                                        Sink* sink) {
    if (!kIntegers) scales.put<kPair, 1>(sink);
    sink->open(2 * kPair, 2);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Ints raw[4];
      transpose16(rows, 48 + 32 * kPair + 16 * half, raw);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const Ints bits = high[4 * half + i];
        const int to = 16 * kPair + 4 * half + i;
        sink->put(0, to, or_(low_nibbles(raw[i]), pick_bits<2 * kPair, 4, 16>(bits)));
        sink->put(1, to + 8, or_(high_nibbles(raw[i]), pick_bits<2 * kPair + 1, 4, 16>(bits)));
      }
    }
    sink->close(2 * kPair, 2);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    const ScalesK4 scales(rows);
    if (kIntegers) scales.store<1>(&sink->integers());
    Ints high[8];
    transpose16(rows, 16, high);
    transpose16(rows, 32, high + 4);
    unpack_pair<0>(rows, scales, high, sink);
    unpack_pair<1>(rows, scales, high, sink);
    unpack_pair<2>(rows, scales, high, sink);
    unpack_pair<3>(rows, scales, high, sink);
  }
};

struct FormatQ6_K {
  static constexpr int kBias = 32, kMaxCode = 63, kTileBytes = 210, kOpen = 4;
  static constexpr bool kHalves = true, kMins = false, kIntegers = false;
  // 128 values: 64 bytes of low nibbles, 32 bytes of two high bits for each of four groups.
  template <int kPart, class Sink>
  static FERRUM_INLINE void unpack_codes(const Rows& rows, Sink* sink) {
    sink->open(4 * kPart, 4);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Ints bits[4], first[4], second[4];
      transpose16(rows, 64 * kPart + 16 * half, first);
      transpose16(rows, 64 * kPart + 32 + 16 * half, second);
      transpose16(rows, 128 + 32 * kPart + 16 * half, bits);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int to = 32 * kPart + 4 * half + i;
        sink->put(half, to, or_(low_nibbles(first[i]), pick_bits<0, 4, 0x30>(bits[i])));
        sink->put(half + 2, to + 8, or_(low_nibbles(second[i]), pick_bits<2, 4, 0x30>(bits[i])));
        sink->put(half + 4, to + 16, or_(high_nibbles(first[i]), pick_bits<4, 4, 0x30>(bits[i])));
        sink->put(half + 6, to + 24, or_(high_nibbles(second[i]), pick_bits<6, 4, 0x30>(bits[i])));
      }
    }
  }
  template <int kFirst, int kEnd, class Sink>  // scales 4 kFirst and up: signed bytes
  static FERRUM_INLINE void scale(const Ints* scales, Floats d, Sink* sink) {
#pragma GCC unroll 4
    for (int i = kFirst; i < kEnd; ++i)  // here 128 higher
      scaled_bytes_less(xor_(scales[i], splat_byte(0x80)), 128, d, sink->scale + 4 * i);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack_scales(const Rows& rows, Sink* sink) {
    Ints scales[4];
    transpose16(rows, 192, scales);
    scale<0, 4>(scales, gather_halves(rows, 208), sink);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    unpack_codes<0>(rows, sink);
    const Floats d = gather_halves(rows, 208);
    Ints scales[4];
    transpose16(rows, 192, scales);
    scale<0, 2>(scales, d, sink);
    sink->close(0, 4);
    unpack_codes<1>(rows, sink);
    scale<2, 4>(scales, d, sink);
    sink->close(4, 4);
  }
};

struct FormatQ2_K {
  static constexpr int kBias = 0, kMaxCode = 3, kTileBytes = 84, kOpen = 4;
  static constexpr bool kHalves = true, kMins = true, kIntegers = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    const Ints halves = gather_u32(rows, 80);
    const Floats d = half_lanes(halves), dmin = half_lanes(shift_right_32<16>(halves));
    Ints scales[4];
    transpose16(rows, 0, scales);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      scaled_bytes(low_nibbles(scales[i]), d, sink->scale + 4 * i);
      scaled_bytes(high_nibbles(scales[i]), dmin, sink->min + 4 * i);
    }
    Rows at = rows;
    for (int part = 0; part < 2; ++part, at.skip(32)) {  // 128 values: 32 bytes of two-bit fields
      sink->open(4 * part, 4);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        Ints raw[4];
        transpose16(at, 16 + 16 * half, raw);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const int to = 32 * part + 4 * half + i;
          sink->put(half, to, pick_bits<0, 0, 3>(raw[i]));
          sink->put(half + 2, to + 8, pick_bits<2, 0, 3>(raw[i]));
          sink->put(half + 4, to + 16, pick_bits<4, 0, 3>(raw[i]));
          sink->put(half + 6, to + 24, pick_bits<6, 0, 3>(raw[i]));
        }
      }
      sink->close(4 * part, 4);
    }
  }
};

struct FormatQ3_K {
  static constexpr int kBias = 4, kMaxCode = 7, kTileBytes = 110, kOpen = 4;
  static constexpr bool kHalves = true, kMins = false, kIntegers = false;
  template <class Sink>
  static FERRUM_INLINE void unpack_scales(const Rows& rows, Sink* sink) {
    Ints tail[4];
    transpose16(rows, 94, tail);  // the block's last 16 bytes: 2 codes, 12 scales, d
    const Floats d = half_lanes(shift_right_32<16>(tail[3]));
    const Ints first = or_(shift_right_32<16>(tail[0]), shift_left_32<16>(tail[1]));
    const Ints second = or_(shift_right_32<16>(tail[1]), shift_left_32<16>(tail[2]));
    const Ints third = or_(shift_right_32<16>(tail[2]), shift_left_32<16>(tail[3]));
    const auto put = [&](Ints low, Ints top, int at) {
      scaled_bytes_less(or_(low, top), 32, d, sink->scale + at);
    };
    put(low_nibbles(first), pick_bits<0, 4, 0x30>(third), 0);
    put(low_nibbles(second), pick_bits<2, 4, 0x30>(third), 4);
    put(high_nibbles(first), pick_bits<4, 4, 0x30>(third), 8);
    put(high_nibbles(second), pick_bits<6, 4, 0x30>(third), 12);
  }
  template <int kPart, class Sink>  // 128 values: two-bit fields of 32 bytes, four high bits
  static FERRUM_INLINE void unpack_part(const Rows& rows, const Ints* high, Sink* sink) {
    constexpr int kBit = 4 * kPart;
    sink->open(4 * kPart, 4);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Ints raw[4];
      transpose16(rows, 32 + 32 * kPart + 16 * half, raw);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const Ints bits = high[4 * half + i];
        const int to = 32 * kPart + 4 * half + i;
        sink->put(half, to, or_(pick_bits<0, 0, 3>(raw[i]), pick_bits<kBit, 2, 4>(bits)));
        sink->put(half + 2, to + 8,
                  or_(pick_bits<2, 0, 3>(raw[i]), pick_bits<kBit + 1, 2, 4>(bits)));
        sink->put(half + 4, to + 16,
                  or_(pick_bits<4, 0, 3>(raw[i]), pick_bits<kBit + 2, 2, 4>(bits)));
        sink->put(half + 6, to + 24,
                  or_(pick_bits<6, 0, 3>(raw[i]), pick_bits<kBit + 3, 2, 4>(bits)));
      }
    }
    sink->close(4 * kPart, 4);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    unpack_scales(rows, sink);
    Ints high[8];
    transpose16(rows, 0, high);
    transpose16(rows, 16, high + 4);
    unpack_part<0>(rows, high, sink);
    unpack_part<1>(rows, high, sink);
  }
};

struct FormatIQ4_XS {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 136, kOpen = 1;
  static constexpr bool kHalves = false, kMins = false, kIntegers = false;
  template <int kPair>  // two groups' scales: a byte of low nibbles, four bits of the high word
  static FERRUM_INLINE void unpack_scales(Ints low, Ints high, Floats d, Floats* scale) {
    const Ints byte = shift_right_32<8 * kPair>(low), bits = shift_right_32<4 * kPair>(high);
    const Floats offset = broadcast(32.0f);
    const Ints even = or_(and_(byte, splat_int(15)), and_(shift_left_32<4>(bits), splat_int(0x30)));
    const Ints odd = or_(and_(shift_right_32<4>(byte), splat_int(15)),
                         and_(shift_left_32<2>(bits), splat_int(0x30)));
    scale[2 * kPair] = mul(sub(to_floats(even), offset), d);
    scale[2 * kPair + 1] = mul(sub(to_floats(odd), offset), d);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack_all_scales(const Rows& rows, Sink* sink) {
    Ints head[4];
    transpose16(rows, 0, head);
    const Floats d = half_lanes(head[0]);
    const Ints high = shift_right_32<16>(head[0]);
    unpack_scales<0>(head[1], high, d, sink->scale);
    unpack_scales<1>(head[1], high, d, sink->scale);
    unpack_scales<2>(head[1], high, d, sink->scale);
    unpack_scales<3>(head[1], high, d, sink->scale);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    unpack_all_scales(rows, sink);
    const Ints values = table16(kValuesIQ4, kWideBias);
    Rows at = rows;
    for (int g = 0; g < kTileGroups; ++g, at.skip(16)) unpack_indices(at, 8, g, values, sink);
  }
};
