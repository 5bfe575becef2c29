// The int8 product by tiles: kRows rows of weights, 256 values deep, are unpacked once into L1 and
// multiplied with every column. A vector holds one quad (four consecutive values) of each of kRows
// rows, so a quad of activations is broadcast and no sum ever crosses lanes.
//
// Codes are the file's own integers, stored without sign (code + bias, because the dot product
// instructions want one unsigned side); a sum starts at -bias * sum(activations), which takes the
// bias out exactly. What is rounded, and in which order, is row_int8-inl.h's: one chain over the
// groups of a tile, and the tiles of a row added up one by one. So a row's bits do not depend on
// the strip or the number of columns, and they are the same on every instruction set.
//
// The vocabulary of the including file, besides floats-inl.h's: kRows (= kLanes), kMaxSums
// (of products in registers together), kTileStrips (1 or 2: how many strips meet columns at once),
// kWideBias, code_class, dot_quad, dot_quads, mul_ints (the low 32 bits), dot_pairs (of 16-bit
// integers, two to a lane), and what unpack-inl.h names.

constexpr int kTileGroups = kSuperBlock / kGroup;
constexpr int kTileQuads = kSuperBlock / 4;
constexpr int64_t kBatch = 64;  // columns that share an unpacked tile, at most

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

// The scales of a tile whose format has integers: per group the scales', as lanes, and the
// minimums' in pairs of 16 bits, as Int8Group::pair has the sums that they are multiplied with.
struct TileIntegers {
  Ints factor[kTileGroups], offset[kTileGroups / 2];
  Floats d, dmin;
};

// Where unpacked weights go when many columns want them. (The other sink is FewColumns below.)
struct Tile {
  Ints q[kTileQuads];             // quad i of the tile's rows: values 4 i .. 4 i + 3
  Floats scale[2 * kTileGroups];  // per group, or per half group where the format says so
  Floats min[2 * kTileGroups];
  TileIntegers whole;
  Ahead ahead;
  FERRUM_INLINE TileIntegers& integers() { return whole; }
  FERRUM_INLINE void open(int group, int count) { ahead.fetch(group, count); }
  FERRUM_INLINE void put(int, int i, Ints quad) { q[i] = quad; }
  FERRUM_INLINE void close(int, int) {}
};

// All that multiplying depends on, so that formats of one shape share their code. kCodes bounds
// the stored codes where the instruction set minds their size (code_class).
template <bool kHasHalves, bool kHasMins, bool kHasBias, bool kHasIntegers, int kCodes>
struct Shape {
  static constexpr bool kHalves = kHasHalves, kMins = kHasMins, kBias = kHasBias;
  static constexpr bool kIntegers = kHasIntegers;
  static constexpr int kMaxCode = kCodes;
};
template <class Format>
using ShapeOf = Shape<Format::kHalves, Format::kMins, Format::kBias != 0, Format::kIntegers,
                      code_class(Format::kMaxCode)>;

constexpr int kBlockGroups = static_cast<int>(kScaleBlock / kGroup);

template <class Kind>
FERRUM_INLINE Ints first_sum(const Int8Group& x, int half) {
  return Kind::kBias ? broadcast_int(x.start[half]) : zero_ints();
}

// What a product takes of a group of activations besides its codes, as lanes. (Lanes that are not
// rows of weights have groups of their own: isa/run_lanes_avx512-inl.h.)
FERRUM_INLINE Floats scale_of(const Int8Group& x) { return broadcast(x.scale); }
FERRUM_INLINE Floats sum_of(const Int8Group& x, int half) { return broadcast(x.sum[half]); }
FERRUM_INLINE Ints pair_of(const Int8Group& x) {
  int32_t both;
  memcpy(&both, x.pair, sizeof both);
  return broadcast_int(both);
}

// The float side of one group of one column. `low` is the whole group's dot product, or its first
// half's where the shape has halves.
template <class Kind, class Group>
FERRUM_INLINE Floats add_group(Ints low, Ints high, const Floats* scale, const Floats* min, int g,
                               const Group& x, Floats sum) {
  const Floats part =
      Kind::kHalves ? fma(to_floats(low), scale[2 * g], mul(to_floats(high), scale[2 * g + 1]))
                    : mul(to_floats(low), scale[g]);
  sum = fma(part, scale_of(x), sum);
  if (!Kind::kMins) return sum;
  if (!Kind::kHalves) return subtract_product(min[g], sum_of(x, 0), sum);
  sum = subtract_product(min[2 * g], sum_of(x, 0), sum);
  return subtract_product(min[2 * g + 1], sum_of(x, 1), sum);
}

// The float side of a block of groups whose scales are integers: `product` is the sum of their dot
// products times these, `x` the block's first group, `block` counts blocks of the tile.
template <class Group>
FERRUM_INLINE Floats add_block(Ints product, const TileIntegers& scales, int block, const Group* x,
                               Floats sum) {
  const Ints* const offset = scales.offset + 2 * block;
  const Ints taken =
      dot_pairs(dot_pairs(zero_ints(), offset[0], pair_of(x[0])), offset[1], pair_of(x[1]));
  const Floats part =
      subtract_product(scales.dmin, to_floats(taken), mul(scales.d, to_floats(product)));
  return fma(part, scale_of(*x), sum);
}

// The `group`-th group of each of kColumns columns. The compiler must not know how it moves on: it
// would keep a pointer per column for codes and for scales each, and registers hold but one.
template <int kColumns>
FERRUM_INLINE void groups_at(const Int8Row* rows, int64_t group, Int8Row* out) {
  size_t skip = static_cast<size_t>(group) * sizeof(Int8Group);
  asm("" : "+r"(skip));
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c)
    out[c] = reinterpret_cast<Int8Row>(reinterpret_cast<const uint8_t*>(rows[c]) + skip);
}

// The dot products of one group of the tiles of kStrips strips with that group of kColumns columns,
// strip by strip.
template <class Kind, int kStrips, int kColumns>
FERRUM_INLINE void dot_group(const Tile* tile, int group, const Int8Row* x, Ints* low, Ints* high) {
  const int8_t* q[kColumns];
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
    q[c] = x[c]->q;
#pragma GCC unroll 2
    for (int s = 0; s < kStrips; ++s) {
      low[s * kColumns + c] = first_sum<Kind>(*x[c], 0);
      if (Kind::kHalves) high[s * kColumns + c] = first_sum<Kind>(*x[c], 1);
    }
  }
  const Ints* const quads = tile->q + 8 * group;
  if constexpr (kStrips == 1) {
    constexpr int kQuads = Kind::kHalves ? 4 : 8;
    dot_quads<Kind, kQuads, kColumns>(quads, q, 0, low);
    if (Kind::kHalves) dot_quads<Kind, kQuads, kColumns>(quads + 4, q, 16, high);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      Ints* const sums = Kind::kHalves && i >= 4 ? high : low;
      const Ints upper = tile[0].q[8 * group + i], lower = tile[1].q[8 * group + i];
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {  // a quad of activations is broadcast once for both
        sums[c] = dot_quad<Kind>(upper, q[c] + 4 * i, sums[c]);
        sums[kColumns + c] = dot_quad<Kind>(lower, q[c] + 4 * i, sums[kColumns + c]);
      }
    }
  }
}

// What one tile each of kStrips strips gave, onto sums[s * kBatch + c].
template <int kStrips, int kColumns>
FERRUM_INLINE void add_to_sums(const Floats* tile, Floats* sums) {
  for (int i = 0; i < kStrips * kColumns; ++i) {
    Floats& sum = sums[i / kColumns * kBatch + i % kColumns];
    sum = add(sum, tile[i]);
  }
}

// sums[s * kBatch + c] of kColumns columns += the products of a tile each of kStrips strips, whose
// first group is `first` of theirs.
template <class Kind, int kStrips, int kColumns>
void multiply_tiles(const Tile* tile, int groups, const Int8Row* rows, int64_t first,
                    Floats* sums) {
  Floats sum[kStrips * kColumns];
  for (int i = 0; i < kStrips * kColumns; ++i) sum[i] = zero();
  for (int g = 0; g < groups; ++g) {
    Int8Row x[kColumns];
    Ints low[kStrips * kColumns], high[kStrips * kColumns];
    groups_at<kColumns>(rows, first + g, x);
    dot_group<Kind, kStrips, kColumns>(tile, g, x, low, high);
#pragma GCC unroll 8
    for (int i = 0; i < kStrips * kColumns; ++i)
      sum[i] = add_group<Kind>(low[i], high[i], tile[i / kColumns].scale, tile[i / kColumns].min, g,
                               *x[i % kColumns], sum[i]);
  }
  add_to_sums<kStrips, kColumns>(sum, sums);
}

// The same where scales are integers.
template <class Kind, int kStrips, int kColumns>
void multiply_integers(const Tile* tile, const Int8Row* rows, int64_t first, Floats* sums) {
  constexpr int kSums = kStrips * kColumns;
  Floats sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = zero();
  for (int block = 0; block < kTileGroups / kBlockGroups; ++block) {
    Int8Row x[kColumns];
    Ints product[kSums];
    for (int i = 0; i < kSums; ++i) product[i] = zero_ints();
    for (int g = kBlockGroups * block; g < kBlockGroups * (block + 1); ++g) {
      Ints dot[kSums];
      groups_at<kColumns>(rows, first + g, x);
      dot_group<Kind, kStrips, kColumns>(tile, g, x, dot, nullptr);
#pragma GCC unroll 8
      for (int i = 0; i < kSums; ++i)
        product[i] = add_ints(product[i], mul_ints(dot[i], tile[i / kColumns].whole.factor[g]));
    }
    groups_at<kColumns>(rows, first + kBlockGroups * block, x);
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i)
      sum[i] = add_block(product[i], tile[i / kColumns].whole, block, x[i % kColumns], sum[i]);
  }
  add_to_sums<kStrips, kColumns>(sum, sums);
}

template <class Kind, int kStrips, int kColumns>
FERRUM_INLINE void multiply_columns_of(const Tile* tile, int groups, const Int8Row* rows,
                                       int64_t first, Floats* sums) {
  if constexpr (kColumns > kMaxSums / kStrips)
    __builtin_unreachable();
  else if constexpr (Kind::kIntegers)
    multiply_integers<Kind, kStrips, kColumns>(tile, rows, first, sums);
  else
    multiply_tiles<Kind, kStrips, kColumns>(tile, groups, rows, first, sums);
}

template <class Kind, int kStrips>
void multiply_columns(const Tile* tile, int groups, const Int8Row* rows, int64_t first, int count,
                      Floats* sums) {
  switch (count) {
#define FERRUM_CASE(n) \
  case n: return multiply_columns_of<Kind, kStrips, n>(tile, groups, rows, first, sums);
    FERRUM_CASE(1)
    FERRUM_CASE(2)
    FERRUM_CASE(3)
    FERRUM_CASE(4)
    FERRUM_CASE(5)
    FERRUM_CASE(6)
    FERRUM_CASE(7)
    FERRUM_CASE(8)
#undef FERRUM_CASE
  }
}

// A column of activations as it meets a tile whose lanes are rows: quads of it are broadcast.
struct RowColumn {
  using Fetch = Ahead;
  Int8Row row;  // from the tile's first group on

  FERRUM_INLINE const Int8Group& group(int g) const { return row[g]; }
  template <class Kind>
  FERRUM_INLINE Ints dot(Ints quad, int i, Ints sum) const {
    // A constant, unlike i; and i / 8 would be computed for each quad anew.
    const int of_group = i & 7;
    const int skip = (i - of_group) * static_cast<int>(sizeof(Int8Group) / 8);
    return dot_quad<Kind>(quad, reinterpret_cast<const int8_t*>(row) + skip + 4 * of_group, sum);
  }
};

// The sink of few columns: quads are multiplied as they are unpacked and never stored. Only the
// open groups' sums are alive, so they stay in registers.
template <class Format, int kColumns, class Column>
struct FewColumns {
  using Kind = ShapeOf<Format>;
  static constexpr int kParts = Format::kHalves ? 2 : 1;  // sums per group
  Column x[kColumns];
  Floats sums[kColumns];  // of the tile
  Ints dot[kColumns][Format::kOpen * kParts];
  Ints product[kColumns];  // of a block, where scales are integers
  Floats *scale, *min;     // elsewhere: arrays indexed at run time would keep all of this in memory
  TileIntegers* whole;
  typename Column::Fetch ahead;

  FERRUM_INLINE TileIntegers& integers() { return *whole; }
  FERRUM_INLINE void open(int group, int count) {
    ahead.fetch(group, count);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
#pragma GCC unroll 8
      for (int i = 0; i < count * kParts; ++i)
        dot[c][i] = first_sum<Kind>(x[c].group(group + i / kParts), i % kParts);
  }
  FERRUM_INLINE void put(int slot, int i, Ints quad) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
      dot[c][slot] = x[c].template dot<Kind>(quad, i, dot[c][slot]);
  }
  FERRUM_INLINE void close(int group, int count) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
#pragma GCC unroll 4
      for (int g = 0; g < count; ++g)
        if constexpr (Kind::kIntegers)
          close_integers(c, group + g, dot[c][g]);
        else
          sums[c] = add_group<Kind>(dot[c][g * kParts], dot[c][g * kParts + kParts - 1], scale, min,
                                    group + g, x[c].group(group + g), sums[c]);
  }
  FERRUM_INLINE void close_integers(int c, int group, Ints sum) {
    const Ints scaled = mul_ints(sum, whole->factor[group]);
    product[c] = group % kBlockGroups == 0 ? scaled : add_ints(product[c], scaled);
    if (group % kBlockGroups + 1 == kBlockGroups) {
      const int block = group / kBlockGroups;
      sums[c] = add_block(product[c], *whole, block, &x[c].group(kBlockGroups * block), sums[c]);
    }
  }
};

// How many columns a format multiplies while unpacking: as many as have sums in registers.
template <class Format>
constexpr int few_columns() {
  constexpr int kOwn = Format::kOpen * FewColumns<Format, 1, RowColumn>::kParts;
  constexpr int kFit = kSumRegisters / kOwn;
  return kFit < 1 ? 1 : kFit < kMostFewColumns ? kFit : kMostFewColumns;
}
