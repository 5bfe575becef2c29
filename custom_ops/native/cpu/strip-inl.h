// From tiles to matrices: strips of kRows rows against batches of columns. See tile-inl.h.

// The tile that begins at `first`, row by row: for the first strip of a call, which none before
// it has fetched.
template <class Format>
void prefetch_tile(const uint8_t* first, size_t row_bytes) {
  for (size_t r = 0; r < kRows; ++r) fetch_bytes(first + r * row_bytes, Format::kTileBytes);
}

// The last rows of a matrix, when fewer than kRows are left: copied out and filled up with zero
// blocks, so that nothing beyond the last row is read.
template <class Format>
void pad_rows(const uint8_t* p, size_t row_bytes, int64_t rows, size_t bytes, uint8_t* buffer) {
  memset(buffer, 0, kRows * Format::kTileBytes);
  for (int64_t r = 0; r < rows; ++r)
    memcpy(buffer + r * Format::kTileBytes, p + static_cast<size_t>(r) * row_bytes, bytes);
}

void store_rows(const Floats* sums, int64_t rows, int64_t columns, float* out, int64_t out_stride) {
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

// Up to kRows rows of a strip.
struct Strip {
  const uint8_t* weights;
  size_t row_bytes;
  int64_t rows, groups;
  const uint8_t* next;  // the strip after it, or null
  bool first;           // of its call
};

constexpr int kTilesEarly = 3;

// A strip tile by tile: body(rows of the tile, its first group, its groups, what to fetch ahead).
template <class Format, class Body>
FERRUM_INLINE void for_each_tile(const Strip& strip, const Body& body) {
  alignas(64) uint8_t buffer[kRows * Format::kTileBytes];
  const uint8_t* weights = strip.weights;
  const uint8_t* next = strip.next;
  for (int64_t at = 0; at < strip.groups; at += kTileGroups) {
    const int64_t left = strip.groups - at;
    const int depth = static_cast<int>(left < kTileGroups ? left : kTileGroups);
    const size_t bytes = static_cast<size_t>(depth) * Format::kTileBytes / kTileGroups;
    if (strip.first)
      for (int early = at == 0 ? 0 : kTilesEarly; early <= kTilesEarly; ++early)
        prefetch_tile<Format>(weights + early * Format::kTileBytes, strip.row_bytes);
    const bool whole = strip.rows == kRows;
    if (!whole) pad_rows<Format>(weights, strip.row_bytes, strip.rows, bytes, buffer);
    const Ahead ahead = {next, kRows * Format::kTileBytes / kTileGroups};
    body(Rows(whole ? weights : buffer, whole ? strip.row_bytes : Format::kTileBytes), at, depth,
         ahead);
    weights += bytes;
    if (next != nullptr) next += kRows * bytes;
  }
}

// sums[c] += the products of one strip with kColumns columns, which its tiles never leave
// registers for.
template <class Format, int kColumns>
__attribute__((noinline)) void multiply_few(const Strip& strip, const Int8Row* x, Floats* sums) {
  Floats scale[2 * kTileGroups], min[2 * kTileGroups];
  TileIntegers whole;
  FewColumns<Format, kColumns> sink;
  sink.scale = scale;
  sink.min = min;
  sink.whole = &whole;
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
    sink.x[c] = x[c];
    sink.sums[c] = sums[c];
  }
  for_each_tile<Format>(
      strip, [&](const Rows& rows, int64_t, int depth, const Ahead& ahead) FERRUM_INLINED {
        sink.ahead = ahead;
        Format::unpack(rows, depth, &sink);
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) sink.x[c] += kTileGroups;
      });
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) sums[c] = sink.sums[c];
}

// sums[c] += the products of one strip with many columns: tiles rest in L1.
template <class Format>
void multiply_many(const Strip& strip, const Int8Row* x, int64_t columns, Floats* sums) {
  alignas(64) Tile tile;
  const int64_t pieces = (columns + kMaxColumns - 1) / kMaxColumns;
  for_each_tile<Format>(
      strip, [&](const Rows& rows, int64_t at, int depth, const Ahead& ahead) FERRUM_INLINED {
        tile.ahead = ahead;
        Format::unpack(rows, depth, &tile);
        for (int64_t i = 0; i < pieces; ++i) {  // even pieces: nine columns are five and four
          const int64_t first = columns * i / pieces, end = columns * (i + 1) / pieces;
          multiply_columns<ShapeOf<Format>>(tile, depth, x + first, at,
                                            static_cast<int>(end - first), sums + first);
        }
      });
}

// One strip with any number of columns, by the way that suits their number.
template <class Format, int kColumns = few_columns<Format>()>
void multiply_strip(const Strip& strip, const Int8Row* x, int64_t columns, Floats* sums) {
  if (columns == kColumns) return multiply_few<Format, kColumns>(strip, x, sums);
  // Codes that fill a byte take longer to unpack, and where few columns fit or scales are integers,
  // tiles win earlier.
  constexpr bool kTwice = kColumns == 8 && Format::kMaxCode != kWide && !Format::kIntegers;
  if (columns > (kTwice ? 2 * kColumns : kColumns))
    return multiply_many<Format>(strip, x, columns, sums);
  if (columns > kColumns) {  // unpacking twice costs less than storing tiles
    const int64_t half = (columns + 1) / 2;
    multiply_strip<Format>(strip, x, half, sums);
    return multiply_strip<Format>(strip, x + half, columns - half, sums + half);
  }
  if constexpr (kColumns > 1) multiply_strip<Format, kColumns - 1>(strip, x, columns, sums);
}

// kernels.h's MatMulInt8 for one format.
template <class Format>
void matmul_tiles(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                  const Int8Row* x, int64_t columns, float* out, int64_t out_stride,
                  const uint8_t* next) {
  Floats sums[kBatch];
  for (int64_t first = 0; first < columns; first += kBatch) {
    const int64_t count = columns - first < kBatch ? columns - first : kBatch;
    for (int64_t r = 0; r < rows; r += kRows) {
      const int64_t height = rows - r < kRows ? rows - r : kRows;
      for (int64_t c = 0; c < count; ++c) sums[c] = zero();
      const uint8_t* const from = weights + static_cast<size_t>(r) * row_bytes;
      const uint8_t* const after = r + 2 * kRows <= rows       ? from + kRows * row_bytes
                                   : first + kBatch >= columns ? next
                                                               : nullptr;
      const Strip strip = {from, row_bytes, height, k / kGroup, after, r == 0};
      multiply_strip<Format>(strip, x + first, count, sums);
      store_rows(sums, height, count, out + first * out_stride + r, out_stride);
    }
  }
}
