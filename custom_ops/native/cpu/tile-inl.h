// The int8 product by tiles: kRows rows of weights, 256 values deep, are unpacked once into L1 and
// multiplied with every column. A vector holds one quad (four consecutive values) of each of kRows
// rows, so a quad of activations is broadcast and no sum ever crosses lanes.
//
// Codes are the file's own integers, stored without sign (code + bias, because the dot product
// instructions want one unsigned side); a sum starts at -bias * sum(activations), which takes the
// bias out exactly. What is rounded, and in which order, is row_int8-inl.h's: one chain over the
// groups of a row. So a row's bits do not depend on the tile, the strip or the number of columns,
// and they are the same on every instruction set.
//
// The vocabulary of the including file, besides floats-inl.h's: kRows (= kLanes), kMaxColumns,
// kWideBias, code_class, dot_quad, dot_quads, and what unpack-inl.h names.

constexpr int kTileGroups = kSuperBlock / kGroup;
constexpr int kTileQuads = kSuperBlock / 4;
constexpr int64_t kBatch = 64;             // columns that share an unpacked tile, at most
constexpr int64_t kMaxPrepared = 1 << 14;  // sums of activations held at a time, over all columns

// The bytes that the next strip will read, fetched into L2 while this one is unpacked: group by
// group, because all at once they would fill the buffers of outstanding misses and stall the loads.
// Not into L1, where they would displace the tile. In the order of addresses, which the hardware's
// own prefetchers then follow.
struct Ahead {
  const uint8_t* from;  // null where no strip follows
  size_t group_bytes;   // of all rows
  FERRUM_INLINE void fetch(int group, int count) const {
    if (from == nullptr) return;
    fetch_bytes(from + static_cast<size_t>(group) * group_bytes,
                static_cast<size_t>(count) * group_bytes);
  }
};

// Where unpacked weights go when many columns want them. (The other sink is FewColumns below.)
struct Tile {
  Ints q[kTileQuads];             // quad i of the tile's rows: values 4 i .. 4 i + 3
  Floats scale[2 * kTileGroups];  // per group, or per half group where the format says so
  Floats min[2 * kTileGroups];
  Ahead ahead;
  FERRUM_INLINE void open(int group, int count) { ahead.fetch(group, count); }
  FERRUM_INLINE void put(int, int i, Ints quad) { q[i] = quad; }
  FERRUM_INLINE void close(int, int) {}
};

// What a column brings to a tile, from its first group on.
struct TileColumn {
  const int8_t* q;
  const float* scale;
  const int32_t* start;  // -bias * sum of activations, per group or half group
  const float* sum;      // scale * sum of activations, where the format has minimums
};

// A format's sums of activations are either starts or products with the scale, never both.
union Prepared {
  int32_t start;
  float sum;
};

// All that multiplying depends on, so that formats of one shape share their code. kCodes bounds
// the stored codes where the instruction set minds their size (code_class).
template <bool kHasHalves, bool kHasMins, bool kHasBias, int kCodes>
struct Shape {
  static constexpr bool kHalves = kHasHalves, kMins = kHasMins, kBias = kHasBias;
  static constexpr int kMaxCode = kCodes;
};
template <class Format>
using ShapeOf =
    Shape<Format::kHalves, Format::kMins, Format::kBias != 0, code_class(Format::kMaxCode)>;

template <class Format>
constexpr int64_t prepared_per_group() {
  return Format::kHalves ? 2 : 1;
}

template <class Format>
void prepare_column(const Int8Row& x, int64_t first_group, int64_t groups, Prepared* out) {
  const int16_t* sums = x.sums + 2 * first_group;
  const float* scale = x.scale + first_group;
  if (Format::kBias && Format::kHalves)
    for (int64_t h = 0; h < 2 * groups; ++h) out[h].start = -Format::kBias * sums[h];
  if (Format::kBias && !Format::kHalves)
    for (int64_t g = 0; g < groups; ++g)
      out[g].start = -Format::kBias * (sums[2 * g] + sums[2 * g + 1]);
  if (Format::kMins && Format::kHalves)
    for (int64_t h = 0; h < 2 * groups; ++h)
      out[h].sum = scale[h / 2] * static_cast<float>(sums[h]);
  if (Format::kMins && !Format::kHalves)
    for (int64_t g = 0; g < groups; ++g)
      out[g].sum = scale[g] * static_cast<float>(sums[2 * g] + sums[2 * g + 1]);
}

template <class Kind>
FERRUM_INLINE Ints first_sum(const TileColumn& x, int64_t i) {
  return Kind::kBias ? broadcast_int(x.start[i]) : zero_ints();
}

// The float side of one group of one column: `g` counts groups of the tile, `first + g` those of
// the column. `low` is the whole group's dot product, or its first half's where the shape has
// halves.
template <class Kind>
FERRUM_INLINE Floats add_group(Ints low, Ints high, const Floats* scale, const Floats* min, int g,
                               const TileColumn& x, int64_t first, Floats sum) {
  const Floats part =
      Kind::kHalves ? fma(to_floats(low), scale[2 * g], mul(to_floats(high), scale[2 * g + 1]))
                    : mul(to_floats(low), scale[g]);
  sum = fma(part, broadcast(x.scale[first + g]), sum);
  if (!Kind::kMins) return sum;
  if (!Kind::kHalves) return subtract_product(min[g], broadcast(x.sum[first + g]), sum);
  const float* const sums = x.sum + 2 * (first + g);
  sum = subtract_product(min[2 * g], broadcast(sums[0]), sum);
  return subtract_product(min[2 * g + 1], broadcast(sums[1]), sum);
}

// sums[c] of kColumns columns += the products of one tile, whose first group is `first` of theirs.
template <class Kind, int kColumns>
void multiply_tile(const Tile& tile, int groups, const TileColumn* x, int64_t first, Floats* sums) {
  Floats sum[kColumns];
  const int8_t* q[kColumns];
  for (int c = 0; c < kColumns; ++c) {
    sum[c] = sums[c];
    q[c] = x[c].q + first * kGroup;
  }
  for (int g = 0; g < groups; ++g) {
    const int at = g * kGroup;
    Ints low[kColumns], high[kColumns];
    for (int c = 0; c < kColumns; ++c)
      low[c] = first_sum<Kind>(x[c], Kind::kHalves ? 2 * (first + g) : first + g);
    if (Kind::kHalves) {
      for (int c = 0; c < kColumns; ++c) high[c] = first_sum<Kind>(x[c], 2 * (first + g) + 1);
      dot_quads<Kind, 4, kColumns>(tile.q + 8 * g, q, at, low);
      dot_quads<Kind, 4, kColumns>(tile.q + 8 * g + 4, q, at + 16, high);
    } else {
      dot_quads<Kind, 8, kColumns>(tile.q + 8 * g, q, at, low);
    }
    for (int c = 0; c < kColumns; ++c)
      sum[c] = add_group<Kind>(low[c], high[c], tile.scale, tile.min, g, x[c], first, sum[c]);
  }
  for (int c = 0; c < kColumns; ++c) sums[c] = sum[c];
}

template <class Kind>
void multiply_columns(const Tile& tile, int groups, const TileColumn* x, int64_t first, int count,
                      Floats* sums) {
  switch (count) {
#define FERRUM_CASE(n) \
  case n: return multiply_tile<Kind, n>(tile, groups, x, first, sums);
    FERRUM_CASE(1)
    FERRUM_CASE(2)
    FERRUM_CASE(3)
    FERRUM_CASE(4)
#if FERRUM_MAX_COLUMNS > 4
    FERRUM_CASE(5)
    FERRUM_CASE(6)
    FERRUM_CASE(7)
    FERRUM_CASE(8)
#endif
#undef FERRUM_CASE
  }
}

// The sink of few columns: quads are multiplied as they are unpacked and never stored. Only the
// open groups' sums are alive, so they stay in registers.
template <class Format, int kColumns>
struct FewColumns {
  using Kind = ShapeOf<Format>;
  static constexpr int kParts = Format::kHalves ? 2 : 1;  // sums per group
  TileColumn x[kColumns];
  Floats sums[kColumns];
  Ints dot[kColumns][Format::kOpen * kParts];
  Floats *scale, *min;  // elsewhere: arrays indexed at run time would keep all of this in memory
  Ahead ahead;

  FERRUM_INLINE void open(int group, int count) {
    ahead.fetch(group, count);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
#pragma GCC unroll 8
      for (int i = 0; i < count * kParts; ++i)
        dot[c][i] = first_sum<Kind>(x[c], group * kParts + i);
  }
  FERRUM_INLINE void put(int slot, int i, Ints quad) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
      dot[c][slot] = dot_quad<Kind>(quad, x[c].q + 4 * i, dot[c][slot]);
  }
  FERRUM_INLINE void close(int group, int count) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
#pragma GCC unroll 4
      for (int g = 0; g < count; ++g)
        sums[c] = add_group<Kind>(dot[c][g * kParts], dot[c][g * kParts + kParts - 1], scale, min,
                                  group + g, x[c], 0, sums[c]);
  }
};

// How many columns a format multiplies while unpacking: as many as have sums in registers.
template <class Format>
constexpr int few_columns() {
  constexpr int kFit = kSumRegisters / (Format::kOpen * FewColumns<Format, 1>::kParts);
  return kFit < 1 ? 1 : kFit < kMostFewColumns ? kFit : kMostFewColumns;
}
