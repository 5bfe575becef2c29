// Blocks of 32 values to tiles, and any other type by way of its decoder. See unpack-inl.h.

struct FormatQ4_0 {
  static constexpr int kBias = 8, kMaxCode = 15, kTileBytes = 8 * 18;
  static constexpr bool kHalves = false, kMins = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const int at = 18 * g;
      sink->scale[g] = half_lanes(gather_u16(rows, at));
      unpack_nibbles(rows, at + 2, 8 * g, 4, sink);
    }
  }
};

struct FormatQ4_1 {
  static constexpr int kBias = 0, kMaxCode = 15, kTileBytes = 8 * 20;
  static constexpr bool kHalves = false, kMins = true;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const int at = 20 * g;
      const Ints halves = gather_u32(rows, at);
      sink->scale[g] = half_lanes(halves);
      sink->min[g] = sub(zero(), half_lanes(shift_right_32<16>(halves)));
      unpack_nibbles(rows, at + 4, 8 * g, 4, sink);
    }
  }
};

// Nibbles with a fifth bit each in a word of 32.
template <class Sink>
FERRUM_INLINE void unpack_fives(const Rows& rows, int from, int at, Sink* sink) {
  const Ints high = gather_u32(rows, from);
  Ints raw[4];
  transpose16(rows, from + 4, raw);
  sink->put(at, or_(low_nibbles(raw[0]), spread_bits<0>(high)));
  sink->put(at + 1, or_(low_nibbles(raw[1]), spread_bits<4>(high)));
  sink->put(at + 2, or_(low_nibbles(raw[2]), spread_bits<8>(high)));
  sink->put(at + 3, or_(low_nibbles(raw[3]), spread_bits<12>(high)));
  sink->put(at + 4, or_(high_nibbles(raw[0]), spread_bits<16>(high)));
  sink->put(at + 5, or_(high_nibbles(raw[1]), spread_bits<20>(high)));
  sink->put(at + 6, or_(high_nibbles(raw[2]), spread_bits<24>(high)));
  sink->put(at + 7, or_(high_nibbles(raw[3]), spread_bits<28>(high)));
}

struct FormatQ5_0 {
  static constexpr int kBias = 16, kMaxCode = 31, kTileBytes = 8 * 22;
  static constexpr bool kHalves = false, kMins = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const int at = 22 * g;
      sink->scale[g] = half_lanes(gather_u16(rows, at));
      unpack_fives(rows, at + 2, 8 * g, sink);
    }
  }
};

struct FormatQ5_1 {
  static constexpr int kBias = 0, kMaxCode = 31, kTileBytes = 8 * 24;
  static constexpr bool kHalves = false, kMins = true;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const int at = 24 * g;
      const Ints halves = gather_u32(rows, at);
      sink->scale[g] = half_lanes(halves);
      sink->min[g] = sub(zero(), half_lanes(shift_right_32<16>(halves)));
      unpack_fives(rows, at + 4, 8 * g, sink);
    }
  }
};

struct FormatQ8_0 {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 8 * 34;
  static constexpr bool kHalves = false, kMins = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const int at = 34 * g;
      sink->scale[g] = half_lanes(gather_u16(rows, at));
      Ints raw[8];
      transpose16(rows, at + 2, raw);
      transpose16(rows, at + 18, raw + 4);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) sink->put(8 * g + i, xor_(raw[i], splat_byte(kWideBias)));
    }
  }
};

struct FormatIQ4_NL {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 8 * 18;
  static constexpr bool kHalves = false, kMins = false;
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    const Ints values = table16(kValuesIQ4, kWideBias);
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const int at = 18 * g;
      sink->scale[g] = half_lanes(gather_u16(rows, at));
      unpack_indices(rows, at + 2, 8 * g, values, sink);
    }
  }
};

struct FormatMXFP4 {
  static constexpr int kBias = 12, kMaxCode = 24, kTileBytes = 8 * 17;
  static constexpr bool kHalves = false, kMins = false;
  // See dequantize.cc: half of 2^(e - 127), subnormal for e < 2.
  static FERRUM_INLINE Floats gather_scale(const Rows& rows, int at) {
    alignas(64) uint32_t bits[kRows];
    for (int r = 0; r < kRows; ++r) {
      const uint32_t e = rows.row(r)[at];
      bits[r] = e < 2 ? 0x00200000u << e : (e - 1) << 23;
    }
    return load(reinterpret_cast<const float*>(bits));
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    const Ints values = table16(kValuesFP4, kBias);
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) {
      const int at = 17 * g;
      sink->scale[g] = gather_scale(rows, at);
      unpack_indices(rows, at + 1, 8 * g, values, sink);
    }
  }
};

// Any type: rows decoded one by one, then transposed. Slow to unpack, as fast as any to multiply.
template <int kType, int kBlock, int kBytes>
struct FormatDecoded {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 256 / kBlock * kBytes;
  static constexpr bool kHalves = has_halves(kType), kMins = has_mins(kType);
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int groups, Sink* sink) {
    const Codes& codes = *find_codes(kType);
    alignas(64) int8_t q[kRows * kSuperBlock] = {};
    alignas(64) float lanes[2][2 * kTileGroups][kRows];
    const int step = kHalves ? 1 : 2, count = 2 * groups / step;
    for (int r = 0; r < kRows; ++r) {
      float scale[2 * kTileGroups], min[2 * kTileGroups] = {};
      for (int at = 0; at < groups * kGroup; at += kBlock)
        codes.decode(rows.row(r) + at / kBlock * kBytes, q + r * kSuperBlock + at, scale + at / 16,
                     min + at / 16);
      for (int i = 0; i < count; ++i) {
        lanes[0][i][r] = scale[step * i];
        lanes[1][i][r] = min[step * i];
      }
    }
    for (int i = 0; i < count; ++i) {
      sink->scale[i] = load(lanes[0][i]);
      if (kMins) sink->min[i] = load(lanes[1][i]);
    }
    const Rows decoded(reinterpret_cast<const uint8_t*>(q), kSuperBlock);
    for (int i = 0; i < 2 * groups; ++i) {
      Ints raw[4];
      transpose16(decoded, 16 * i, raw);
      for (int j = 0; j < 4; ++j) sink->put(4 * i + j, xor_(raw[j], splat_byte(kWideBias)));
    }
  }
};
