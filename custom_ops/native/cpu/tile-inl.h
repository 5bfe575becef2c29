// The int8 product by tiles: kRows rows of weights, 256 values deep, are unpacked once into L1 and
// multiplied with every column. A vector holds one quad (four consecutive values) of each of kRows
// rows, so a quad of activations is broadcast and no sum ever crosses lanes.
//
// Codes are the file's own integers, stored without sign (code + bias, because the dot product
// instructions want one unsigned side); the sum starts at -bias * sum(activations), which takes the
// bias out exactly. What is rounded, and in which order, is row_int8-inl.h's: one chain over the
// groups of a row. So a row's bits do not depend on the tile, the strip or the number of columns,
// and they are the same on every instruction set.
//
// The vocabulary of the including file, besides floats-inl.h's: kRows (= kLanes), kMaxColumns,
// kWideBias and dot_quads, and what unpack-inl.h names.

constexpr int kTileGroups = kSuperBlock / kGroup;
constexpr int kTileQuads = kSuperBlock / 4;
constexpr int64_t kBatch = 64;  // columns that share an unpacked tile

struct Tile {
  Ints q[kTileQuads];             // quad i of the tile's rows: values 4 i .. 4 i + 3
  Floats scale[2 * kTileGroups];  // per group, or per half group where the format says so
  Floats min[2 * kTileGroups];
};

// What a column brings to one tile besides its codes.
struct TileColumn {
  int32_t start[2 * kTileGroups];  // -bias * sum of activations, per group or half
  float sum[2 * kTileGroups];      // scale * sum of activations
};

template <class Format>
void prepare_column(const Int8Row& x, int64_t group, int groups, TileColumn* column) {
  const int16_t* sums = x.sums + 2 * group;
  const float* scale = x.scale + group;
  for (int g = 0; g < groups; ++g) {
    const int32_t low = sums[2 * g], high = sums[2 * g + 1];
    if (Format::kHalves) {
      if (Format::kBias) column->start[2 * g] = -Format::kBias * low;
      if (Format::kBias) column->start[2 * g + 1] = -Format::kBias * high;
      if (Format::kMins) column->sum[2 * g] = scale[g] * static_cast<float>(low);
      if (Format::kMins) column->sum[2 * g + 1] = scale[g] * static_cast<float>(high);
    } else {
      if (Format::kBias) column->start[g] = -Format::kBias * (low + high);
      if (Format::kMins) column->sum[g] = scale[g] * static_cast<float>(low + high);
    }
  }
}

template <class Format>
Ints first_sum(const TileColumn& column, int i) {
  return Format::kBias ? broadcast_int(column.start[i]) : zero_ints();
}

// sums[c] of kColumns columns += one tile's products.
template <class Format, int kColumns>
void multiply_tile(const Tile& tile, int groups, int64_t group, const Int8Row* x,
                   const TileColumn* columns, Floats* sums) {
  Floats sum[kColumns];
  const int8_t* q[kColumns];
  for (int c = 0; c < kColumns; ++c) {
    sum[c] = sums[c];
    q[c] = x[c].q + group * kGroup;
  }
  for (int g = 0; g < groups; ++g) {
    const int at = g * kGroup;
    Floats part[kColumns];
    if (Format::kHalves) {
      Ints low[kColumns], high[kColumns];
      for (int c = 0; c < kColumns; ++c) {
        low[c] = first_sum<Format>(columns[c], 2 * g);
        high[c] = first_sum<Format>(columns[c], 2 * g + 1);
      }
      dot_quads<Format, 4, kColumns>(tile.q + 8 * g, q, at, low);
      dot_quads<Format, 4, kColumns>(tile.q + 8 * g + 4, q, at + 16, high);
      for (int c = 0; c < kColumns; ++c)
        part[c] = fma(to_floats(low[c]), tile.scale[2 * g],
                      mul(to_floats(high[c]), tile.scale[2 * g + 1]));
    } else {
      Ints whole[kColumns];
      for (int c = 0; c < kColumns; ++c) whole[c] = first_sum<Format>(columns[c], g);
      dot_quads<Format, 8, kColumns>(tile.q + 8 * g, q, at, whole);
      for (int c = 0; c < kColumns; ++c) part[c] = mul(to_floats(whole[c]), tile.scale[g]);
    }
    for (int c = 0; c < kColumns; ++c) {
      sum[c] = fma(part[c], broadcast(x[c].scale[group + g]), sum[c]);
      if (Format::kMins && !Format::kHalves)
        sum[c] = subtract_product(tile.min[g], broadcast(columns[c].sum[g]), sum[c]);
      if (Format::kMins && Format::kHalves) {
        sum[c] = subtract_product(tile.min[2 * g], broadcast(columns[c].sum[2 * g]), sum[c]);
        sum[c] = subtract_product(tile.min[2 * g + 1], broadcast(columns[c].sum[2 * g + 1]), sum[c]);
      }
    }
  }
  for (int c = 0; c < kColumns; ++c) sums[c] = sum[c];
}

template <class Format>
void multiply_columns(const Tile& tile, int groups, int64_t group, const Int8Row* x,
                      const TileColumn* columns, int count, Floats* sums) {
  switch (count) {
#define FERRUM_CASE(n)                                                     \
  case n:                                                                  \
    multiply_tile<Format, n>(tile, groups, group, x, columns, sums);       \
    return;
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

// The bytes that lie ahead, into L2 and not into L1, where they would displace the tile.
void prefetch_l2(const uint8_t* p, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

// The last rows of a matrix, when fewer than kRows are left: copied out and filled up with zero
// blocks, so that nothing beyond the last row is read.
template <class Format>
const uint8_t* pad_rows(const uint8_t* p, size_t row_bytes, int64_t rows, size_t bytes,
                        uint8_t* buffer) {
  memset(buffer, 0, kRows * Format::kTileBytes);
  for (int64_t r = 0; r < rows; ++r)
    memcpy(buffer + r * Format::kTileBytes, p + static_cast<size_t>(r) * row_bytes, bytes);
  return buffer;
}

void store_rows(const Floats* sums, int64_t rows, int64_t columns, float* out,
                int64_t out_stride) {
  for (int64_t c = 0; c < columns; ++c) {
    if (rows == kRows) {
      store(out + c * out_stride, sums[c]);
    } else {
      float lanes[kRows];
      store(lanes, sums[c]);
      memcpy(out + c * out_stride, lanes, static_cast<size_t>(rows) * sizeof(float));
    }
  }
}

// One strip of up to kRows rows against up to kBatch columns. `ahead` bytes per tile of the next
// strip are prefetched.
template <class Format>
void multiply_strip(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                    const Int8Row* x, int64_t columns, bool more, Floats* sums) {
  alignas(64) uint8_t buffer[kRows * Format::kTileBytes];
  alignas(64) Tile tile;
  TileColumn prepared[kMaxColumns];
  for (int64_t c = 0; c < columns; ++c) sums[c] = zero();
  const int64_t pieces = (columns + kMaxColumns - 1) / kMaxColumns;
  const uint8_t* next = weights + kRows * row_bytes;
  for (int64_t at = 0; at < k; at += kSuperBlock) {
    const int groups = static_cast<int>((k - at < kSuperBlock ? k - at : kSuperBlock) / kGroup);
    const size_t bytes = static_cast<size_t>(groups) * Format::kTileBytes / kTileGroups;
    if (more) prefetch_l2(next, kRows * bytes);
    next += kRows * bytes;
    if (rows == kRows)
      Format::unpack(weights, row_bytes, groups, &tile);
    else
      Format::unpack(pad_rows<Format>(weights, row_bytes, rows, bytes, buffer),
                     Format::kTileBytes, groups, &tile);
    weights += bytes;
    for (int64_t i = 0; i < pieces; ++i) {  // even pieces: nine columns are five and four
      const int64_t first = columns * i / pieces, end = columns * (i + 1) / pieces;
      if (Format::kBias || Format::kMins)
        for (int64_t c = first; c < end; ++c)
          prepare_column<Format>(x[c], at / kGroup, groups, &prepared[c - first]);
      multiply_columns<Format>(tile, groups, at / kGroup, x + first, prepared,
                               static_cast<int>(end - first), sums + first);
    }
  }
}

// kernels.h's MatMulInt8 for one format.
template <class Format>
void matmul_tiles(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                  const Int8Row* x, int64_t columns, float* out, int64_t out_stride) {
  Floats sums[kBatch];
  for (int64_t first = 0; first < columns; first += kBatch) {
    const int64_t count = columns - first < kBatch ? columns - first : kBatch;
    for (int64_t r = 0; r < rows; r += kRows) {
      const int64_t height = rows - r < kRows ? rows - r : kRows;
      multiply_strip<Format>(weights + static_cast<size_t>(r) * row_bytes, row_bytes, height, k,
                             x + first, count, r + 2 * kRows <= rows, sums);
      store_rows(sums, height, count, out + first * out_stride + r, out_stride);
    }
  }
}
