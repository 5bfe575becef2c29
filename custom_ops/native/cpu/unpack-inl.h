// How each format becomes a Tile: hand-written for the formats that models are made of.
//
// A Format names kBias (stored code = code + bias), kMaxCode (the largest stored code, or kWide
// where codes fill a byte), kHalves, kMins and kIntegers as in codes.h, kTileBytes (one row's bytes
// of 256 values), kOpen (how many groups it unpacks side by side) and unpack(rows, groups, sink).
// For some groups at a time unpack fills the sink's scales (and minimums; or, first of all, its
// integers), opens the groups, puts their quads and closes them. put(slot, i, quad) is quad i of
// the tile; the slot counts the open sums: one per group, or two per group where halves have scales
// of their own.
//
// Vocabulary: transpose16 (16 bytes of each row, from an offset on, to 4 quads), and_, or_,
// shift_left, shift_right (16-bit lanes, count as template argument: masks clear what crosses a
// byte), byte_lane, top_nibbles with kTopTimes (a group of high nibbles and how much too large they
// are), shift_right_32, shift_left_32, xor_, splat_byte, splat_int, table16 (16 bytes), look_up,
// half_lanes (the low 16 bits of each lane as float16), gather_halves (float16), gather_u32 (of
// each row), spread_bits.

constexpr int kWide = 255;

FERRUM_INLINE Ints low_nibbles(Ints v) { return and_(v, splat_byte(15)); }
FERRUM_INLINE Ints high_nibbles(Ints v) { return and_(shift_right<4>(v), splat_byte(15)); }

template <int kByte>
FERRUM_INLINE Floats byte_of(Ints v) {
  return to_floats(byte_lane<kByte, 1>(v));
}

// out[0 .. 3] = factor * the four bytes of each lane.
FERRUM_INLINE void scaled_bytes(Ints v, Floats factor, Floats* out) {
  out[0] = mul(byte_of<0>(v), factor);
  out[1] = mul(byte_of<1>(v), factor);
  out[2] = mul(byte_of<2>(v), factor);
  out[3] = mul(byte_of<3>(v), factor);
}

// The same for bytes that stand for byte - offset.
FERRUM_INLINE void scaled_bytes_less(Ints v, int offset, Floats factor, Floats* out) {
  const Floats shift = broadcast(static_cast<float>(offset));
  out[0] = mul(sub(byte_of<0>(v), shift), factor);
  out[1] = mul(sub(byte_of<1>(v), shift), factor);
  out[2] = mul(sub(byte_of<2>(v), shift), factor);
  out[3] = mul(sub(byte_of<3>(v), shift), factor);
}

// One group of 32 from 16 bytes of nibbles per row: the low halves are its first 16 values.
template <class Sink>
FERRUM_INLINE void unpack_nibbles(const Rows& rows, int from, int group, Sink* sink) {
  Ints raw[4];
  transpose16(rows, from, raw);
  sink->open(group, 1);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    sink->put(0, 8 * group + i, low_nibbles(raw[i]));
    sink->put(0, 8 * group + 4 + i, high_nibbles(raw[i]));
  }
  sink->close(group, 1);
}

// The same where a nibble is an index into 16 values.
template <class Sink>
FERRUM_INLINE void unpack_indices(const Rows& rows, int from, int group, Ints values, Sink* sink) {
  Ints raw[4];
  transpose16(rows, from, raw);
  sink->open(group, 1);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    sink->put(0, 8 * group + i, look_up(values, low_nibbles(raw[i])));
    sink->put(0, 8 * group + 4 + i, look_up(values, high_nibbles(raw[i])));
  }
  sink->close(group, 1);
}

// Every byte's bits from kFrom on, moved to kTo; what comes from the neighbour is for a mask.
template <int kFrom, int kTo>
FERRUM_INLINE Ints move_bits(Ints v) {
  if constexpr (kFrom < kTo) return shift_left<kTo - kFrom>(v);
  if constexpr (kFrom > kTo) return shift_right<kFrom - kTo>(v);
  return v;
}

template <int kFrom, int kTo, int kMask>
FERRUM_INLINE Ints pick_bits(Ints v) {
  return and_(move_bits<kFrom, kTo>(v), splat_byte(kMask));
}
