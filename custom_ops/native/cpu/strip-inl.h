// From tiles to matrices: strips of kRows rows against batches of columns. See tile-inl.h.
//
// multiply_in_order<Format>, with arguments as kernels.h's MatMulInt8, is the including file's:
// where it has a faster way for few columns it does all of a product and says so.

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

// Up to kRows rows, or those of two whole strips.
struct Strip {
  const uint8_t* weights;
  size_t row_bytes;
  int64_t rows, groups;
  const uint8_t* next;  // where the rows after them begin, or null
  bool first;           // of its call
};

constexpr int kTilesEarly = 3;

// One or two strips tile by tile: body(rows of a tile, which strip's it is, its first group, its
// groups, what to fetch ahead).
template <class Format, int kStrips, class Body>
FERRUM_INLINE void for_each_tile(const Strip& strip, const Body& body) {
  alignas(64) uint8_t buffer[kRows * Format::kTileBytes];
  const uint8_t* weights = strip.weights;
  const uint8_t* next = strip.next;
  for (int64_t at = 0; at < strip.groups; at += kTileGroups) {
    const int64_t left = strip.groups - at;
    const int depth = static_cast<int>(left < kTileGroups ? left : kTileGroups);
    const size_t bytes = static_cast<size_t>(depth) * Format::kTileBytes / kTileGroups;
    const bool whole = kStrips > 1 || strip.rows == kRows;
#pragma GCC unroll 2
    for (int s = 0; s < kStrips; ++s) {
      const uint8_t* const from = weights + s * kRows * strip.row_bytes;
      if (strip.first)
        for (int early = at == 0 ? 0 : kTilesEarly; early <= kTilesEarly; ++early)
          prefetch_tile<Format>(from + early * Format::kTileBytes, strip.row_bytes);
      if (!whole) pad_rows<Format>(from, strip.row_bytes, strip.rows, bytes, buffer);
      const Ahead ahead = {next, kRows * Format::kTileBytes / kTileGroups};
      body(Rows(whole ? from : buffer, whole ? strip.row_bytes : Format::kTileBytes), s, at, depth,
           ahead);
      if (next != nullptr) next += kRows * bytes;
    }
    weights += bytes;
  }
}

// sums[c] += the products of one strip with kColumns columns, which its tiles never leave
// registers for.
template <class Format, int kColumns>
__attribute__((noinline)) void multiply_few(const Strip& strip, const Int8Row* x, Floats* sums) {
  Floats scale[2 * kTileGroups], min[2 * kTileGroups];
  TileIntegers whole;
  FewColumns<Format, kColumns, RowColumn> sink;
  sink.scale = scale;
  sink.min = min;
  sink.whole = &whole;
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) sink.x[c] = {x[c]};
  for_each_tile<Format, 1>(
      strip, [&](const Rows& rows, int, int64_t, int depth, const Ahead& ahead) FERRUM_INLINED {
        sink.ahead = ahead;
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) sink.sums[c] = zero();
        Format::unpack(rows, depth, &sink);
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) {
          sums[c] = add(sums[c], sink.sums[c]);
          sink.x[c].row += kTileGroups;
        }
      });
}

// sums[s * kBatch + c] += the products of one or two strips with many columns: tiles rest in L1.
template <class Format, int kStrips>
__attribute__((noinline)) void multiply_many(const Strip& strip, const Int8Row* x, int64_t columns,
                                             Floats* sums) {
  constexpr int kWidth = kMaxSums / kStrips;
  alignas(64) Tile tile[kStrips];
  const int64_t pieces = (columns + kWidth - 1) / kWidth;
  for_each_tile<Format, kStrips>(strip, [&](const Rows& rows, int s, int64_t at, int depth,
                                            const Ahead& ahead) FERRUM_INLINED {
    tile[s].ahead = ahead;
    Format::unpack(rows, depth, &tile[s]);
    if (s + 1 < kStrips) return;
    for (int64_t i = 0; i < pieces; ++i) {  // even pieces: nine columns are five and four
      const int64_t first = columns * i / pieces, end = columns * (i + 1) / pieces;
      multiply_columns<ShapeOf<Format>, kStrips>(tile, depth, x + first, at,
                                                 static_cast<int>(end - first), sums + first);
    }
  });
}

// The most columns that a format multiplies while it unpacks, if not at once.
template <class Format>
constexpr int64_t most_without_tiles() {
  constexpr int kFew = few_columns<Format>();
  // Codes that fill a byte take longer to unpack, and where few columns fit or scales are integers,
  // tiles win earlier.
  constexpr bool kTwice = kFew == 8 && Format::kMaxCode != kWide && !Format::kIntegers;
  return kTwice ? 2 * kFew : kFew;
}

// Codes that fill a byte take so little unpacking that reading sets the pace.
template <class Format>
constexpr bool kReadingSetsThePace = Format::kTileBytes > kSuperBlock;

// One strip with so few columns.
template <class Format, int kColumns = few_columns<Format>()>
void multiply_strip(const Strip& strip, const Int8Row* x, int64_t columns, Floats* sums) {
  if (columns == kColumns) return multiply_few<Format, kColumns>(strip, x, sums);
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
  if (multiply_in_order<Format>(weights, row_bytes, rows, k, x, columns, out, out_stride, next))
    return;
  const InOrder order = {weights + static_cast<size_t>(rows) * row_bytes, next};
  Floats sums[kTileStrips * kBatch];
  for (int64_t first = 0; first < columns; first += kBatch) {
    const int64_t count = columns - first < kBatch ? columns - first : kBatch;
    const bool by_tiles = count > most_without_tiles<Format>();
    for (int64_t r = 0, height; r < rows; r += height) {
      const bool both = kTileStrips == 2 && by_tiles && rows - r >= 2 * kRows;
      height = both ? 2 * kRows : rows - r < kRows ? rows - r : kRows;
      for (int64_t c = 0; c < count; ++c)
        for (int s = 0; s < kTileStrips; ++s) sums[s * kBatch + c] = zero();
      const uint8_t* const from = weights + static_cast<size_t>(r) * row_bytes;
      const uint8_t* const after = r + height + kRows <= rows
                                       ? from + static_cast<size_t>(height) * row_bytes
                                   : first + kBatch >= columns ? next
                                                               : nullptr;
      if (both || kReadingSetsThePace<Format>)  // others would wait for look-ups
        order.look_up_pages(from, static_cast<size_t>(height) * row_bytes);
      const Strip strip = {from, row_bytes, height, k / kGroup, after, r == 0};
      if (both)
        multiply_many<Format, kTileStrips>(strip, x + first, count, sums);
      else if (by_tiles)
        multiply_many<Format, 1>(strip, x + first, count, sums);
      else
        multiply_strip<Format>(strip, x + first, count, sums);
      float* const to = out + first * out_stride + r;
      for (int64_t s = 0; s * kRows < height; ++s)
        store_rows(sums + s * kBatch, both ? kRows : height, count, to + s * kRows, out_stride);
    }
  }
}
