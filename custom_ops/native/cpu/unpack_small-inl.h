// Blocks of 32 values to tiles, and any other type by way of its decoder. See unpack-inl.h.

struct FormatQ4_0 {
  static constexpr int kBias = 8, kMaxCode = 15, kTileBytes = 8 * 18;
  static constexpr bool kHalves = false, kMins = false;
  static void unpack(const uint8_t* p, size_t stride, int groups, Tile* tile) {
    for (int g = 0; g < groups; ++g, p += 18) {
      tile->scale[g] = half_lanes(gather_u16(p, stride));
      unpack_nibbles(p + 2, stride, 4, tile->q + 8 * g);
    }
  }
};

struct FormatQ4_1 {
  static constexpr int kBias = 0, kMaxCode = 15, kTileBytes = 8 * 20;
  static constexpr bool kHalves = false, kMins = true;
  static void unpack(const uint8_t* p, size_t stride, int groups, Tile* tile) {
    for (int g = 0; g < groups; ++g, p += 20) {
      const Ints halves = gather_u32(p, stride);
      tile->scale[g] = half_lanes(halves);
      tile->min[g] = sub(zero(), half_lanes(shift_right_32<16>(halves)));
      unpack_nibbles(p + 4, stride, 4, tile->q + 8 * g);
    }
  }
};

// Nibbles with a fifth bit each in a word of 32.
void unpack_fives(const uint8_t* p, size_t stride, Ints* quads) {
  const Ints high = gather_u32(p, stride);
  unpack_nibbles(p + 4, stride, 4, quads);
  quads[0] = or_(quads[0], spread_bits<0>(high));
  quads[1] = or_(quads[1], spread_bits<4>(high));
  quads[2] = or_(quads[2], spread_bits<8>(high));
  quads[3] = or_(quads[3], spread_bits<12>(high));
  quads[4] = or_(quads[4], spread_bits<16>(high));
  quads[5] = or_(quads[5], spread_bits<20>(high));
  quads[6] = or_(quads[6], spread_bits<24>(high));
  quads[7] = or_(quads[7], spread_bits<28>(high));
}

struct FormatQ5_0 {
  static constexpr int kBias = 16, kMaxCode = 31, kTileBytes = 8 * 22;
  static constexpr bool kHalves = false, kMins = false;
  static void unpack(const uint8_t* p, size_t stride, int groups, Tile* tile) {
    for (int g = 0; g < groups; ++g, p += 22) {
      tile->scale[g] = half_lanes(gather_u16(p, stride));
      unpack_fives(p + 2, stride, tile->q + 8 * g);
    }
  }
};

struct FormatQ5_1 {
  static constexpr int kBias = 0, kMaxCode = 31, kTileBytes = 8 * 24;
  static constexpr bool kHalves = false, kMins = true;
  static void unpack(const uint8_t* p, size_t stride, int groups, Tile* tile) {
    for (int g = 0; g < groups; ++g, p += 24) {
      const Ints halves = gather_u32(p, stride);
      tile->scale[g] = half_lanes(halves);
      tile->min[g] = sub(zero(), half_lanes(shift_right_32<16>(halves)));
      unpack_fives(p + 4, stride, tile->q + 8 * g);
    }
  }
};

struct FormatQ8_0 {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 8 * 34;
  static constexpr bool kHalves = false, kMins = false;
  static void unpack(const uint8_t* p, size_t stride, int groups, Tile* tile) {
    for (int g = 0; g < groups; ++g, p += 34) {
      tile->scale[g] = half_lanes(gather_u16(p, stride));
      transpose16(p + 2, stride, tile->q + 8 * g);
      transpose16(p + 18, stride, tile->q + 8 * g + 4);
      for (int i = 0; i < 8; ++i)
        tile->q[8 * g + i] = xor_(tile->q[8 * g + i], splat_byte(kWideBias));
    }
  }
};

struct FormatIQ4_NL {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 8 * 18;
  static constexpr bool kHalves = false, kMins = false;
  static void unpack(const uint8_t* p, size_t stride, int groups, Tile* tile) {
    const Ints values = table16(kValuesIQ4, kWideBias);
    for (int g = 0; g < groups; ++g, p += 18) {
      tile->scale[g] = half_lanes(gather_u16(p, stride));
      unpack_nibbles(p + 2, stride, 4, tile->q + 8 * g);
      for (int i = 0; i < 8; ++i) tile->q[8 * g + i] = look_up(values, tile->q[8 * g + i]);
    }
  }
};

struct FormatMXFP4 {
  static constexpr int kBias = 12, kMaxCode = 24, kTileBytes = 8 * 17;
  static constexpr bool kHalves = false, kMins = false;
  // See dequantize.cc: half of 2^(e - 127), subnormal for e < 2.
  static Floats gather_scale(const uint8_t* p, size_t stride) {
    alignas(64) uint32_t bits[kRows];
    for (int r = 0; r < kRows; ++r) {
      const uint32_t e = p[static_cast<size_t>(r) * stride];
      bits[r] = e < 2 ? 0x00200000u << e : (e - 1) << 23;
    }
    return load(reinterpret_cast<const float*>(bits));
  }
  static void unpack(const uint8_t* p, size_t stride, int groups, Tile* tile) {
    const Ints values = table16(kValuesFP4, kBias);
    for (int g = 0; g < groups; ++g, p += 17) {
      tile->scale[g] = gather_scale(p, stride);
      unpack_nibbles(p + 1, stride, 4, tile->q + 8 * g);
      for (int i = 0; i < 8; ++i) tile->q[8 * g + i] = look_up(values, tile->q[8 * g + i]);
    }
  }
};

// Any type: rows decoded one by one, then transposed. Slow to unpack, as fast as any to multiply.
template <int kType, int kBlock, int kBytes>
struct FormatDecoded {
  static constexpr int kBias = kWideBias, kMaxCode = kWide, kTileBytes = 256 / kBlock * kBytes;
  static constexpr bool kHalves = has_halves(kType), kMins = has_mins(kType);
  static void unpack(const uint8_t* p, size_t stride, int groups, Tile* tile) {
    const Codes& codes = *find_codes(kType);
    alignas(64) int8_t q[kRows * kSuperBlock] = {};
    alignas(64) float lanes[2][2 * kTileGroups][kRows];
    const int step = kHalves ? 1 : 2, count = 2 * groups / step;
    for (int r = 0; r < kRows; ++r) {
      float scale[2 * kTileGroups], min[2 * kTileGroups] = {};
      for (int at = 0; at < groups * kGroup; at += kBlock)
        codes.decode(p + static_cast<size_t>(r) * stride + at / kBlock * kBytes,
                     q + r * kSuperBlock + at, scale + at / 16, min + at / 16);
      for (int i = 0; i < count; ++i) {
        lanes[0][i][r] = scale[step * i];
        lanes[1][i][r] = min[step * i];
      }
    }
    for (int i = 0; i < count; ++i) {
      tile->scale[i] = load(lanes[0][i]);
      if (kMins) tile->min[i] = load(lanes[1][i]);
    }
    for (int i = 0; i < 2 * groups; ++i) {
      transpose16(reinterpret_cast<const uint8_t*>(q) + 16 * i, kSuperBlock, tile->q + 4 * i);
      for (int j = 0; j < 4; ++j)
        tile->q[4 * i + j] = xor_(tile->q[4 * i + j], splat_byte(kWideBias));
    }
  }
};
