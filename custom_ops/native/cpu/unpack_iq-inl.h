// The i-quants of two and three bits to tiles. See unpack-inl.h, and decode_iq-inl.h for the
// scales.
//
// A grid has few magnitudes, so the ranks of an entry's 4 or 8 values fit 16 bits, and each lane
// holds two entries of its row. A rank and a sign then make an index into 16 values.
//
// Vocabulary, besides: look_up_entries (two vectors of indices' low bytes and two whose bytes have
// their further bits on the right, to four of entries: of bytes 0 and 2, then of bytes 1 and 3) and
// signed_quad (four values of the entries in kFrom's half of each lane, their first rank at bit
// kFrom and their first sign at bit kSign).

// Value i of an entry has its rank at bit kWidth * (i / 2) of byte i % 2.
template <size_t kEntries, size_t kLength>
struct Grid {
  static constexpr int kCount = kEntries, kWidth = 16 / kLength;
  uint16_t entries[kEntries] = {};
  alignas(64) uint8_t planes[2][kEntries] = {};  // the entries' lower and upper bytes
  int8_t values[16] = {};                        // by three bits of rank and one of sign
  int largest = 0;

  explicit constexpr Grid(const int8_t (&from)[kEntries][kLength]) {
    int ranks[128] = {};
    for (const auto& entry : from)
      for (const int8_t value : entry) ranks[value] = 1;
    for (int value = 0, count = 0; value < 128; ++value)
      if (ranks[value] != 0) {
        put_value(count, largest = value);
        ranks[value] = count++;
      }
    for (size_t e = 0; e < kEntries; ++e)
      for (size_t i = 0; i < kLength; ++i)
        planes[i % 2][e] =
            static_cast<uint8_t>(planes[i % 2][e] | ranks[from[e][i]] << (i / 2 * kWidth));
    for (size_t e = 0; e < kEntries; ++e)
      entries[e] = static_cast<uint16_t>(planes[0][e] | planes[1][e] << 8);
  }
  // Ranks of two bits have a neighbour's in the third.
  constexpr void put_value(int rank, int value) {
    for (; rank < 8; rank += 1 << kWidth) {
      values[rank] = static_cast<int8_t>(value);
      values[8 + rank] = static_cast<int8_t>(-value);
    }
  }
};
constexpr Grid kRanksIQ2_XXS(kGridIQ2_XXS);
constexpr Grid kRanksIQ2_XS(kGridIQ2_XS);
constexpr Grid kRanksIQ2_S(kGridIQ2_S);
constexpr Grid kRanksIQ3_XXS(kGridIQ3_XXS);
constexpr Grid kRanksIQ3_S(kGridIQ3_S);

// Bytes of seven signs to eight. The last is set where the seven are odd in number, so the signs of
// two nibbles' xor are the xor of their signs.
struct SignTable {
  int8_t low[16] = {}, high[16] = {};
  constexpr SignTable() {
    for (int i = 0; i < 16; ++i) low[i] = static_cast<int8_t>(kSignsOf7Bits[i]);
    for (int i = 0; i < 8; ++i) high[i] = static_cast<int8_t>(kSignsOf7Bits[16 * i]);
  }
};
constexpr SignTable kSignTable;
FERRUM_INLINE Ints eighth_signs(Ints sevens) {
  return xor_(look_up(table16(kSignTable.low, 0), low_nibbles(sevens)),
              look_up(table16(kSignTable.high, 0), high_nibbles(sevens)));
}

// A word of four times seven signs and, on top, a scale.
FERRUM_INLINE Ints word_signs(Ints word) {
  const Ints low =
      or_(and_(word, splat_int(0x7f)), and_(shift_left_32<1>(word), splat_int(0x7f00)));
  const Ints high = or_(and_(shift_left_32<2>(word), splat_int(0x7f0000)),
                        and_(shift_left_32<3>(word), splat_int(0x7f000000)));
  return eighth_signs(or_(low, high));
}
FERRUM_INLINE Floats word_scale(Ints word, Floats d) {
  const Ints twice = and_(shift_right_32<27>(word), splat_int(0x1e));
  return mul(to_floats(or_(twice, splat_int(1))), d);
}

// scale[0 .. 7] = d * (2 s + 1) of the nibbles of four bytes.
FERRUM_INLINE void nibble_scales(Ints nibbles, Floats d, Floats* scale) {
  Floats even[4], odd[4];
  scaled_bytes(or_(pick_bits<0, 1, 0x1e>(nibbles), splat_byte(1)), d, even);
  scaled_bytes(or_(pick_bits<4, 1, 0x1e>(nibbles), splat_byte(1)), d, odd);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    scale[2 * i] = even[i];
    scale[2 * i + 1] = odd[i];
  }
}

// A group of entries of four values. Vectors of entries: 0 and 2, 1 and 3, 4 and 6, 5 and 7.
template <class Sink>
FERRUM_INLINE void put_fours(const Ints* entries, Ints signs, Ints values, int group, Sink* sink) {
  const int to = 8 * group;
  sink->open(group, 1);
  sink->put(0, to, signed_quad<4, 0, 0>(entries[0], signs, values));
  sink->put(0, to + 1, signed_quad<4, 0, 4>(entries[1], signs, values));
  sink->put(0, to + 2, signed_quad<4, 16, 8>(entries[0], signs, values));
  sink->put(0, to + 3, signed_quad<4, 16, 12>(entries[1], signs, values));
  sink->put(0, to + 4, signed_quad<4, 0, 16>(entries[2], signs, values));
  sink->put(0, to + 5, signed_quad<4, 0, 20>(entries[3], signs, values));
  sink->put(0, to + 6, signed_quad<4, 16, 24>(entries[2], signs, values));
  sink->put(0, to + 7, signed_quad<4, 16, 28>(entries[3], signs, values));
  sink->close(group, 1);
}

// The two quads of an entry of eight values.
template <int kFrom, int kSign, class Sink>
FERRUM_INLINE void put_eight(Ints entries, Ints signs, Ints values, int slot, int to, Sink* sink) {
  sink->put(slot, to, signed_quad<2, kFrom, kSign>(entries, signs, values));
  sink->put(slot, to + 1, signed_quad<2, kFrom + 4, kSign + 4>(entries, signs, values));
}

// A group of entries of eight values. Vectors of entries: 0 and 2, 1 and 3, or in order; bytes of
// signs likewise.
template <class Format, bool kInOrder = false, class Sink>
FERRUM_INLINE void put_eights(const Ints* entries, Ints signs, Ints values, int group, Sink* sink) {
  constexpr int kHalf = Format::kHalves ? 1 : 0, kLow = kInOrder ? 2 : 1, kHigh = 3 - kLow;
  const int to = 8 * group;
  sink->open(group, 1);
  put_eight<0, 0>(entries[0], signs, values, 0, to, sink);
  put_eight<0, 8>(entries[1], signs, values, kHalf * (kLow / 2), to + 2 * kLow, sink);
  put_eight<16, 16>(entries[0], signs, values, kHalf * (kHigh / 2), to + 2 * kHigh, sink);
  put_eight<16, 24>(entries[1], signs, values, kHalf, to + 6, sink);
  sink->close(group, 1);
}

// What the formats share but for their grid, their bytes of 256 values, and whether halves of a
// group have scales of their own.
template <const auto& kRanks, int kBytes, bool kHalfScales>
struct GridFormat {
  static constexpr const auto& kGrid = kRanks;
  static constexpr int kBias = kGrid.largest, kMaxCode = 2 * kBias, kTileBytes = kBytes, kOpen = 1;
  static constexpr bool kHalves = kHalfScales, kMins = false, kIntegers = false;
};

struct FormatIQ3_S : GridFormat<kRanksIQ3_S, 110, false> {
  // Eight indices of a byte, and a ninth bit of each in the lowest byte of `ninth`.
  template <class Sink>
  static FERRUM_INLINE void unpack_group(const Ints* indices, Ints ninth, Ints signs, Ints values,
                                         int group, Sink* sink) {
    const Ints high[2] = {spread_bits<0, 0>(ninth), spread_bits<4, 0>(ninth)};
    Ints entries[4];
    look_up_entries(kGrid, indices, high, entries);
    put_fours(entries, signs, values, group, sink);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    Ints head[4], middle[4], tail[4];  // 8 bytes of ninth bits, 32 of signs, 4 of scales
    transpose16(rows, 66, head);
    transpose16(rows, 82, middle);
    transpose16(rows, 94, tail);
    const Ints signs[kTileGroups] = {head[2],   head[3],   middle[0], middle[1],
                                     middle[2], middle[3], tail[1],   tail[2]};
    nibble_scales(tail[3], gather_halves(rows, 0), sink->scale);
    const Ints values = table16(kGrid.values, kBias);
    Rows at = rows;
    for (int g = 0; g < kTileGroups; g += 2, at.skip(16)) {
      const Ints ninth = head[g / 4];
      Ints indices[4];
      transpose16(at, 2, indices);
      unpack_group(indices, ninth, signs[g], values, g, sink);
      unpack_group(indices + 2, shift_right_32<8>(ninth), signs[g + 1], values, g + 1, sink);
      head[g / 4] = shift_right_32<16>(ninth);
    }
  }
};

struct FormatIQ3_XXS : GridFormat<kRanksIQ3_XXS, 98, false> {
  template <class Sink>
  static FERRUM_INLINE void unpack_group(const Ints* indices, Ints word, Floats d, Ints values,
                                         int group, Sink* sink) {
    Ints entries[4];
    look_up_entries(kGrid, indices, indices, entries);  // of a byte: nothing further is read
    sink->scale[group] = word_scale(word, d);
    put_fours(entries, word_signs(word), values, group, sink);
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    Ints words[kTileGroups];
    transpose16(rows, 66, words);
    transpose16(rows, 82, words + 4);
    const Floats d = mul(gather_halves(rows, 0), broadcast(0.25f));
    const Ints values = table16(kGrid.values, kBias);
    Rows at = rows;
    for (int g = 0; g < kTileGroups; g += 2, at.skip(16)) {
      Ints indices[4];
      transpose16(at, 2, indices);
      unpack_group(indices, words[g], d, values, g, sink);
      unpack_group(indices + 2, words[g + 1], d, values, g + 1, sink);
    }
  }
};

struct FormatIQ2_XXS : GridFormat<kRanksIQ2_XXS, 66, false> {
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    const Floats d = mul(gather_halves(rows, 0), broadcast(0.125f));
    const Ints values = table16(kGrid.values, kBias);
    Rows at = rows;
    for (int g = 0; g < kTileGroups; g += 2, at.skip(16)) {
      Ints raw[4], entries[4];  // a group's four indices and its word, twice
      transpose16(at, 2, raw);
      const Ints indices[2] = {raw[0], raw[2]};
      look_up_entries(kGrid, indices, indices, entries);
      sink->scale[g] = word_scale(raw[1], d);
      sink->scale[g + 1] = word_scale(raw[3], d);
      put_eights<FormatIQ2_XXS>(entries, word_signs(raw[1]), values, g, sink);
      put_eights<FormatIQ2_XXS>(entries + 2, word_signs(raw[3]), values, g + 1, sink);
    }
  }
};

struct FormatIQ2_XS : GridFormat<kRanksIQ2_XS, 74, true> {
  // Words of a group, 0 and 1, 2 and 3: bytes of indices, and of a ninth bit under seven signs.
  static FERRUM_INLINE void split(const Ints* words, Ints* low, Ints* high) {
    const Ints mask = splat_int(0x00ff00ff);
    *low = or_(and_(words[0], mask), shift_left<8>(words[1]));
    *high = or_(shift_right<8>(words[0]), and_(words[1], splat_int(static_cast<int>(0xff00ff00))));
  }
  static FERRUM_INLINE Ints signs(Ints high) {
    return eighth_signs(and_(shift_right<1>(high), splat_byte(0x7f)));
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    Ints tail[4];
    transpose16(rows, 58, tail);  // the block's last 16 bytes: 8 of indices, 8 of scales
    const Floats d = mul(gather_halves(rows, 0), broadcast(0.125f));
    nibble_scales(tail[2], d, sink->scale);
    nibble_scales(tail[3], d, sink->scale + 8);
    const Ints values = table16(kGrid.values, kBias);
    Rows at = rows;
    for (int g = 0; g < kTileGroups; g += 2, at.skip(16)) {
      Ints words[4], low[2], high[2], entries[4];
      transpose16(at, 2, words);
      split(words, low, high);
      split(words + 2, low + 1, high + 1);
      look_up_entries(kGrid, low, high, entries);
      put_eights<FormatIQ2_XS, true>(entries, signs(high[0]), values, g, sink);
      put_eights<FormatIQ2_XS, true>(entries + 2, signs(high[1]), values, g + 1, sink);
    }
  }
};

struct FormatIQ2_S : GridFormat<kRanksIQ2_S, 82, true> {
  // The four pairs of bits of the lowest byte, each to the right of a byte.
  static FERRUM_INLINE Ints spread_pairs(Ints x) {
    const Ints byte = and_(x, splat_int(255));
    const Ints two = or_(byte, shift_left_32<6>(byte));
    return or_(two, shift_left_32<12>(two));
  }
  template <class Sink>
  static FERRUM_INLINE void unpack(const Rows& rows, int, Sink* sink) {
    Ints indices[kTileGroups], signs[kTileGroups], tail[4];
    transpose16(rows, 2, indices);
    transpose16(rows, 18, indices + 4);
    transpose16(rows, 34, signs);
    transpose16(rows, 50, signs + 4);
    transpose16(rows, 66, tail);  // 8 bytes of the indices' top bits, 8 of scales
    const Floats d = mul(gather_halves(rows, 0), broadcast(0.125f));
    nibble_scales(tail[2], d, sink->scale);
    nibble_scales(tail[3], d, sink->scale + 8);
    const Ints values = table16(kGrid.values, kBias);
    for (int g = 0; g < kTileGroups; g += 2) {
      const Ints top = tail[g / 4];
      const Ints high[2] = {spread_pairs(top), spread_pairs(shift_right_32<8>(top))};
      Ints entries[4];
      look_up_entries(kGrid, indices + g, high, entries);
      put_eights<FormatIQ2_S>(entries, signs[g], values, g, sink);
      put_eights<FormatIQ2_S>(entries + 2, signs[g + 1], values, g + 1, sink);
      tail[g / 4] = shift_right_32<16>(top);
    }
  }
};
