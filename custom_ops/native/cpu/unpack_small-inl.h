// Blocks of 32 values to tiles, and any other type by way of its decoder. See unpack-inl.h.

struct FormatQ4_0 {
  static constexpr int kBias = 8, kMaxCode = 15, kTileBytes = 8 * 18, kOpen = 1;
  static constexpr bool kHalves = false, kMins = false, kIntegers = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    Rows at = rows;
    for (int g = 0; g < groups; ++g, at.skip(18)) {
      sink->scale[g] = gather_halves(at, 0);
      unpack_nibbles(at, 2, g, sink);
    }
  }
};

struct FormatQ4_1 {
  static constexpr int kBias = 0, kMaxCode = 15, kTileBytes = 8 * 20, kOpen = 1;
  static constexpr bool kHalves = false, kMins = true, kIntegers = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    Rows at = rows;
    for (int g = 0; g < groups; ++g, at.skip(20)) {
      const Ints halves = gather_u32(at, 0);
      sink->scale[g] = half_lanes(halves);
      sink->min[g] = sub(zero(), half_lanes(shift_right_32<16>(halves)));
      unpack_nibbles(at, 4, g, sink);
    }
  }
};

// Nibbles with a fifth bit each in a word of 32.
template <class Sink>
FERRUM_INLINE void unpack_fives(const Rows& rows, int from, int group, Sink* sink) {
  const Ints high = gather_u32(rows, from);
  const int at = 8 * group;
  Ints raw[4];
  transpose16(rows, from + 4, raw);
  sink->open(group, 1);
  sink->put(0, at, or_(low_nibbles(raw[0]), spread_bits<0>(high)));
  sink->put(0, at + 1, or_(low_nibbles(raw[1]), spread_bits<4>(high)));
  sink->put(0, at + 2, or_(low_nibbles(raw[2]), spread_bits<8>(high)));
  sink->put(0, at + 3, or_(low_nibbles(raw[3]), spread_bits<12>(high)));
  sink->put(0, at + 4, or_(high_nibbles(raw[0]), spread_bits<16>(high)));
  sink->put(0, at + 5, or_(high_nibbles(raw[1]), spread_bits<20>(high)));
  sink->put(0, at + 6, or_(high_nibbles(raw[2]), spread_bits<24>(high)));
  sink->put(0, at + 7, or_(high_nibbles(raw[3]), spread_bits<28>(high)));
  sink->close(group, 1);
}

struct FormatQ5_0 {
  static constexpr int kBias = 16, kMaxCode = 31, kTileBytes = 8 * 22, kOpen = 1;
  static constexpr bool kHalves = false, kMins = false, kIntegers = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    Rows at = rows;
    for (int g = 0; g < groups; ++g, at.skip(22)) {
      sink->scale[g] = gather_halves(at, 0);
      unpack_fives(at, 2, g, sink);
    }
  }
};

struct FormatQ5_1 {
  static constexpr int kBias = 0, kMaxCode = 31, kTileBytes = 8 * 24, kOpen = 1;
  static constexpr bool kHalves = false, kMins = true, kIntegers = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    Rows at = rows;
    for (int g = 0; g < groups; ++g, at.skip(24)) {
      const Ints halves = gather_u32(at, 0);
      sink->scale[g] = half_lanes(halves);
      sink->min[g] = sub(zero(), half_lanes(shift_right_32<16>(halves)));
      unpack_fives(at, 4, g, sink);
    }
  }
};

struct FormatQ8_0 {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 8 * 34, kOpen = 1;
  static constexpr bool kHalves = false, kMins = false, kIntegers = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    Rows at = rows;
    for (int g = 0; g < groups; ++g, at.skip(34)) {
      sink->scale[g] = gather_halves(at, 0);
      sink->open(g, 1);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        Ints raw[4];
        transpose16(at, 2 + 16 * half, raw);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
          sink->put(0, 8 * g + 4 * half + i, xor_(raw[i], splat_byte(kWideBias)));
      }
      sink->close(g, 1);
    }
  }
};

struct FormatIQ4_NL {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 8 * 18, kOpen = 1;
  static constexpr bool kHalves = false, kMins = false, kIntegers = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    const Ints values = table16(kValuesIQ4, kWideBias);
    Rows at = rows;
    for (int g = 0; g < groups; ++g, at.skip(18)) {
      sink->scale[g] = gather_halves(at, 0);
      unpack_indices(at, 2, g, values, sink);
    }
  }
};

struct FormatMXFP4 {
  static constexpr int kBias = 12, kMaxCode = 24, kTileBytes = 8 * 17, kOpen = 1;
  static constexpr bool kHalves = false, kMins = false, kIntegers = false;
  // See dequantize.cc: half of 2^(e - 127). Its bits are (e - 1) << 23, or, where that is smaller
  // as an integer (e < 2: a subnormal), (e + 1) << 21.
  static FERRUM_INLINE Floats gather_scale(const Rows& rows) {
    const Ints e = and_(gather_u32(rows, 0), splat_int(255));
    const Ints bits = max_ints(shift_left_32<23>(add_ints(e, splat_int(-1))),
                               shift_left_32<21>(add_ints(e, splat_int(1))));
    Floats scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    const Ints values = table16(kValuesFP4, kBias);
    Rows at = rows;
    for (int g = 0; g < groups; ++g, at.skip(17)) {
      sink->scale[g] = gather_scale(at);
      unpack_indices(at, 1, g, values, sink);
    }
  }
};

// Four scales of 8 bits (unsigned E4M3, halved as the values are doubled) for four times 16 values.
struct FormatNVFP4 {
  static constexpr int kBias = 12, kMaxCode = 24, kTileBytes = 4 * 36, kOpen = 1;
  static constexpr bool kHalves = true, kMins = false, kIntegers = false;
  static FERRUM_INLINE Floats gather_scale(const Rows& rows, int at) {
    alignas(64) float lanes[kRows];
    for (int r = 0; r < kRows; ++r) lanes[r] = kScalesNVFP4[rows.row(r)[at]];
    return load(lanes);
  }
  // 16 bytes: a group's two halves of 8 bytes, low nibbles first.
  template <class Sink>
  static FERRUM_INLINE void unpack_group(const Rows& rows, int from, int group, Ints values,
                                         Sink* sink) {
    Ints raw[4];
    transpose16(rows, from, raw);
    sink->open(group, 1);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int to = 8 * group + i / 2 * 4 + i % 2;
      sink->put(i / 2, to, look_up(values, low_nibbles(raw[i])));
      sink->put(i / 2, to + 2, look_up(values, high_nibbles(raw[i])));
    }
    sink->close(group, 1);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    const Ints values = table16(kValuesFP4, kBias);
    Rows at = rows;
    for (int g = 0; g < groups; g += 2, at.skip(36)) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sink->scale[2 * g + i] = gather_scale(at, i);
      unpack_group(at, 4, g, values, sink);
      unpack_group(at, 20, g + 1, values, sink);
    }
  }
};

// Any type: rows decoded one by one, then transposed. Slow to unpack, as fast as any to multiply.
template <int kType, int kBlock, int kBytes>
struct FormatDecoded {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kOpen = 1;
  static constexpr int kTileBytes = kSuperBlock / kBlock * kBytes;
  static constexpr bool kHalves = has_halves(kType), kMins = has_mins(kType), kIntegers = false;
  // Scales and minimums of row r to lane r.
  struct Lanes {
    alignas(64) float scale[2 * kTileGroups][kRows], min[2 * kTileGroups][kRows];
  };
  static void decode(const Rows& rows, int groups, int8_t* q, Lanes* lanes) {
    const Codes& codes = *find_codes(kType);
    constexpr int kStep = kHalves ? 1 : 2;
    for (int r = 0; r < kRows; ++r) {
      float scale[2 * kTileGroups], min[2 * kTileGroups] = {};
      for (int at = 0; at < groups * kGroup; at += kBlock)
        codes.decode(rows.row(r) + at / kBlock * kBytes, q + r * kSuperBlock + at, scale + at / 16,
                     min + at / 16);
      for (int i = 0; i < 2 * groups / kStep; ++i) {
        lanes->scale[i][r] = scale[kStep * i];
        lanes->min[i][r] = min[kStep * i];
      }
    }
  }
  template <class Sink>
  static void unpack(const Rows& rows, int groups, Sink* sink) {
    alignas(64) int8_t q[kRows * kSuperBlock];
    Lanes lanes;
    decode(rows, groups, q, &lanes);
    for (int i = 0; i < (kHalves ? 2 : 1) * groups; ++i) {
      sink->scale[i] = load(lanes.scale[i]);
      if (kMins) sink->min[i] = load(lanes.min[i]);
    }
    const Rows decoded(reinterpret_cast<const uint8_t*>(q), kSuperBlock);
    for (int g = 0; g < groups; ++g) {
      Ints raw[8];
      transpose16(decoded, 32 * g, raw);
      transpose16(decoded, 32 * g + 16, raw + 4);
      sink->open(g, 1);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        sink->put(kHalves ? i / 4 : 0, 8 * g + i, xor_(raw[i], splat_byte(kWideBias)));
      sink->close(g, 1);
    }
  }
};
