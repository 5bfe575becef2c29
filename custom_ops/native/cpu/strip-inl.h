// From tiles to matrices: strips of kRows rows against batches of columns. See tile-inl.h.

// The bytes that lie ahead, into L2 and not into L1, where they would displace the tile.
void prefetch_l2(const uint8_t* p, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

// The last rows of a matrix, when fewer than kRows are left: copied out and filled up with zero
// blocks, so that nothing beyond the last row is read.
template <class Format>
void pad_rows(const uint8_t* p, size_t row_bytes, int64_t rows, size_t bytes, uint8_t* buffer) {
  memset(buffer, 0, kRows * Format::kTileBytes);
  for (int64_t r = 0; r < rows; ++r)
    memcpy(buffer + r * Format::kTileBytes, p + static_cast<size_t>(r) * row_bytes, bytes);
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

Floats load_rows(const float* from, int64_t rows) {
  float lanes[kRows] = {};
  memcpy(lanes, from, static_cast<size_t>(rows) * sizeof(float));
  return load(lanes);
}

// A batch of columns over one stretch of k, with its prepared sums.
struct Batch {
  TileColumn column[kBatch];
  int64_t count;
  Prepared prepared[kMaxPrepared];
};

template <class Format>
void fill_batch(const Int8Row* x, int64_t count, int64_t first_group, int64_t groups,
                Batch* batch) {
  batch->count = count;
  for (int64_t c = 0; c < count; ++c) {
    Prepared* prepared = batch->prepared + c * groups * prepared_per_group<Format>();
    prepare_column<Format>(x[c], first_group, groups, prepared);
    batch->column[c] = {x[c].q + first_group * kGroup, x[c].scale + first_group, &prepared->start,
                        &prepared->sum};
  }
}

void advance(const TileColumn& from, int64_t group, int64_t per_group, TileColumn* to) {
  *to = {from.q + group * kGroup, from.scale + group, from.start + group * per_group,
         from.sum + group * per_group};
}

// One strip of up to kRows rows; sums[c] += its products. With `more`, the next strip is fetched.
template <class Format>
void multiply_strip(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t groups,
                    const Batch& batch, bool more, Floats* sums) {
  constexpr int64_t kPerGroup = prepared_per_group<Format>();
  alignas(64) uint8_t buffer[kRows * Format::kTileBytes];
  alignas(64) Tile tile;
  const int64_t pieces = (batch.count + kMaxColumns - 1) / kMaxColumns;
  const uint8_t* next = weights + kRows * row_bytes;
  for (int64_t at = 0; at < groups; at += kTileGroups) {
    const int depth = static_cast<int>(groups - at < kTileGroups ? groups - at : kTileGroups);
    const size_t bytes = static_cast<size_t>(depth) * Format::kTileBytes / kTileGroups;
    if (more) prefetch_l2(next, kRows * bytes);
    next += kRows * bytes;
    if (rows < kRows) pad_rows<Format>(weights, row_bytes, rows, bytes, buffer);
    const Rows tile_rows =
        rows < kRows ? Rows(buffer, Format::kTileBytes) : Rows(weights, row_bytes);
    weights += bytes;
    TileColumn columns[kMaxColumns];
    if (batch.count == 1 && depth == kTileGroups) {
      advance(batch.column[0], at, kPerGroup, columns);
      sums[0] = multiply_one<Format>(tile_rows, columns[0], sums[0]);
      continue;
    }
    Format::unpack(tile_rows, depth, &tile);
    for (int64_t i = 0; i < pieces; ++i) {  // even pieces: nine columns are five and four
      const int64_t first = batch.count * i / pieces, end = batch.count * (i + 1) / pieces;
      for (int64_t c = first; c < end; ++c)
        advance(batch.column[c], at, kPerGroup, columns + (c - first));
      multiply_columns<ShapeOf<Format>>(tile, depth, columns, static_cast<int>(end - first),
                                        sums + first);
    }
  }
}

// kernels.h's MatMulInt8 for one format. A row deeper than kMaxPrepared allows is taken in
// stretches, its sums resting in `out` between them.
template <class Format>
void matmul_tiles(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                  const Int8Row* x, int64_t columns, float* out, int64_t out_stride) {
  constexpr int64_t kMaxGroups = kMaxPrepared / prepared_per_group<Format>();
  Batch batch;
  const int64_t groups = k / kGroup;
  const int64_t stretch = groups < kMaxGroups ? groups : kMaxGroups;
  const int64_t fit = stretch == 0 ? 1 : kMaxGroups / stretch;
  const int64_t width = fit < kBatch ? fit : kBatch;
  Floats sums[kBatch];
  for (int64_t first = 0; first < columns; first += width)
    for (int64_t group = 0; group < groups; group += stretch) {
      const int64_t depth = groups - group < stretch ? groups - group : stretch;
      fill_batch<Format>(x + first, columns - first < width ? columns - first : width, group,
                         depth, &batch);
      const size_t skip = static_cast<size_t>(group) * Format::kTileBytes / kTileGroups;
      for (int64_t r = 0; r < rows; r += kRows) {
        const int64_t height = rows - r < kRows ? rows - r : kRows;
        float* to = out + first * out_stride + r;
        for (int64_t c = 0; c < batch.count; ++c)
          sums[c] = group == 0 ? zero() : load_rows(to + c * out_stride, height);
        multiply_strip<Format>(weights + static_cast<size_t>(r) * row_bytes + skip, row_bytes,
                               height, depth, batch, r + 2 * kRows <= rows, sums);
        store_rows(sums, height, batch.count, to, out_stride);
      }
    }
}
