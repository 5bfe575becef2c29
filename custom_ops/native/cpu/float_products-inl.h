// Products in float32: rows of floats, or decoded rows, times columns of activations. The
// vocabulary is floats-inl.h's.
//
// A dot product runs in one chain per lane and then across lanes, so its bits depend on its length
// alone.

constexpr int kBlockRows = 4;                            // of weights, whose sums with ...
constexpr int kBlockColumns = kRegisters == 32 ? 6 : 3;  // ... columns rest in registers together
constexpr int64_t kHeld = 1 << 17;     // activations that stay in L2 while the rows pass by
constexpr int64_t kMostColumns = 256;  // of them, however short
constexpr int kStretch = 512;          // values decoded at a time, ...
constexpr int kDecodedColumns = 48;    // ... which so many columns share
// Rows pass by one at a time where a single column meets them: with narrower vectors the chain of a
// row takes longer than memory does, and four rows have four chains.
constexpr bool kRowsAlone = kLanes >= 16;
static_assert(kStretch % kLanes == 0 && kStretch % kSuperBlock == 0, "whole vectors and blocks");

// How weights of one float type meet float activations: kStep values at a time, widened in
// registers.
template <int kType>
struct WidenedProducts {
  using Element = float;  // of activations
  static constexpr int kStep = kLanes;
  static constexpr int64_t kBytes = element_bytes<kType>();
  static Floats weights(const uint8_t* p) { return load_elements<kType>(p, 0); }
  static Floats activations(const float* p) { return load(p); }
  static Floats add(Floats w, Floats x, Floats sum) { return fma(w, x, sum); }
};

// What to fetch while a product runs, evenly over its steps.
struct Coming {
  const uint8_t* at;
  size_t bytes;

  Coming part(int64_t i, int64_t parts) const {
    const auto edge = [&](int64_t n) { return bytes * static_cast<size_t>(n) / parts; };
    return {at + edge(i), edge(i + 1) - edge(i)};
  }
};

// The ends of rows and columns that fill no whole vector, filled up with zeros.
template <class Products, int kHeight, int kColumns>
struct Ends {
  using Element = typename Products::Element;
  uint8_t rows[kHeight][Products::kStep * Products::kBytes];
  Element x[kColumns][Products::kStep];

  void take(const uint8_t* const* row, const Element* const* column, int64_t from, int64_t count) {
    memset(this, 0, sizeof *this);
    for (int r = 0; r < kHeight; ++r)
      memcpy(rows[r], row[r] + from * Products::kBytes,
             static_cast<size_t>(count * Products::kBytes));
    for (int c = 0; c < kColumns; ++c)
      memcpy(x[c], column[c] + from, static_cast<size_t>(count) * sizeof(Element));
  }
};

// sums[c * kHeight + r] += rows[r] times x[c], lane by lane, over n values. Inlined, so that the
// sums stay in registers.
template <class Products, int kHeight, int kColumns>
inline __attribute__((always_inline)) void add_products(const uint8_t* const* rows,
                                                        const typename Products::Element* const* x,
                                                        int64_t n, Coming coming, Floats* sums) {
  using Element = typename Products::Element;
  const int64_t steps = n / Products::kStep, whole = steps * Products::kStep;
  Ends<Products, kHeight, kColumns> ends;
  // Before the sums are in registers, which a call would drive out.
  if (whole < n) ends.take(rows, x, whole, n - whole);
  const uint8_t* row[kHeight];
  const Element* column[kColumns];
  Floats sum[kHeight * kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < kHeight; ++r) row[r] = rows[r];
#pragma GCC unroll 6
  for (int c = 0; c < kColumns; ++c) column[c] = x[c];
#pragma GCC unroll 24
  for (int j = 0; j < kHeight * kColumns; ++j) sum[j] = sums[j];
  const auto step = [&](int64_t i) __attribute__((always_inline)) {
    decltype(Products::activations(nullptr)) values[kColumns];
#pragma GCC unroll 6
    for (int c = 0; c < kColumns; ++c) values[c] = Products::activations(column[c] + i);
#pragma GCC unroll 4
    for (int r = 0; r < kHeight; ++r) {
      const auto w = Products::weights(row[r] + i * Products::kBytes);
#pragma GCC unroll 6
      for (int c = 0; c < kColumns; ++c)
        sum[c * kHeight + r] = Products::add(w, values[c], sum[c * kHeight + r]);
    }
  };
  const size_t stride = steps == 0 ? 0 : coming.bytes / static_cast<size_t>(steps);
  const uint8_t *fetched = coming.at, *due = coming.at;
  for (int64_t i = 0; i < whole; i += Products::kStep) {
    for (due += stride; fetched < due; fetched += 64) fetch(fetched);
    step(i);
  }
  if (whole < n) {
#pragma GCC unroll 4
    for (int r = 0; r < kHeight; ++r) row[r] = ends.rows[r];
#pragma GCC unroll 6
    for (int c = 0; c < kColumns; ++c) column[c] = ends.x[c];
    step(0);
  }
#pragma GCC unroll 24
  for (int j = 0; j < kHeight * kColumns; ++j) sums[j] = sum[j];
}

template <int kHeight>
inline __attribute__((always_inline)) void store_sums(const Floats* sums, float* out) {
  if (kHeight == 4) return reduce_add_four(sums, out);
  for (int r = 0; r < kHeight; ++r) out[r] = reduce_add(sums[r]);
}

// body(std::integral_constant) for a count of 1 to kMost.
template <int kMost, class Body>
void with_count(int64_t count, const Body& body) {
  if (count == kMost) return body(std::integral_constant<int, kMost>());
  if constexpr (kMost > 1) with_count<kMost - 1>(count, body);
}

// kHeight rows of floats times kColumns columns.
template <class Products, int kHeight, int kColumns>
void multiply_block(const uint8_t* weights, size_t row_bytes, int64_t k,
                    const typename Products::Element* const* x, Coming coming, float* out,
                    int64_t out_stride) {
  Floats sums[kHeight * kColumns];
  const uint8_t* rows[kHeight];
  for (int j = 0; j < kHeight * kColumns; ++j) sums[j] = zero();
  for (int r = 0; r < kHeight; ++r) rows[r] = weights + static_cast<size_t>(r) * row_bytes;
  add_products<Products, kHeight, kColumns>(rows, x, k, coming, sums);
#pragma GCC unroll 6
  for (int c = 0; c < kColumns; ++c) store_sums<kHeight>(sums + c * kHeight, out + c * out_stride);
}

// kHeight rows of floats times any number of columns, in even pieces: seven are four and three.
template <class Products, int kHeight>
void multiply_rows(const uint8_t* weights, size_t row_bytes, int64_t k,
                   const typename Products::Element* const* x, int64_t columns, Coming coming,
                   float* out, int64_t out_stride) {
  const int64_t pieces = (columns + kBlockColumns - 1) / kBlockColumns;
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t first = columns * i / pieces, end = columns * (i + 1) / pieces;
    with_count<kBlockColumns>(end - first, [&](auto count) {
      multiply_block<Products, kHeight, decltype(count)::value>(
          weights, row_bytes, k, x + first, coming.part(i, pieces), out + first * out_stride,
          out_stride);
    });
  }
}

// Rows of floats times a single column: one after the other, with no more instructions than it
// takes.
template <class Products>
void multiply_column(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                     const typename Products::Element* x, float* out, const uint8_t* next) {
  constexpr int64_t kStep = Products::kStep, kLine = 64 / Products::kBytes;  // values
  constexpr int64_t kSteps = 2 * kLine > kStep ? 2 * kLine / kStep : 1;      // of two lines
  const int64_t whole = k / kStep * kStep;
  const InOrder order = {weights + static_cast<size_t>(rows) * row_bytes, next};
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* const row = weights + static_cast<size_t>(r) * row_bytes;
    order.look_up_pages(row, row_bytes);
    Floats sum = zero();
    const auto step = [&](int64_t i) __attribute__((always_inline)) {
      sum = Products::add(Products::weights(row + i * Products::kBytes),
                          Products::activations(x + i), sum);
    };
    int64_t i = 0;
    for (; i + kSteps * kStep <= whole; i += kSteps * kStep) {
      const uint8_t* const ahead = order.after(row + i * Products::kBytes, kBytesAhead);
      for (int64_t line = 0; line < kSteps * kStep; line += kLine)
        fetch_once(ahead + line * Products::kBytes);
#pragma GCC unroll 8
      for (int64_t j = 0; j < kSteps; ++j) step(i + j * kStep);
    }
    for (; i < whole; i += kStep) step(i);
    if (whole < k) {
      const uint8_t* const row_end = row + whole * Products::kBytes;
      const typename Products::Element* const x_end = x + whole;
      add_products<Products, 1, 1>(&row_end, &x_end, k - whole, {nullptr, 0}, &sum);
    }
    out[r] = reduce_add(sum);
  }
}

// Rows of floats times columns. Blocks of rows lie too far apart for the hardware to fetch them by
// itself: the block behind comes closer meanwhile, in the order of its addresses.
template <class Products>
void multiply_floats(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                     const typename Products::Element* const* x, int64_t columns, float* out,
                     int64_t out_stride, const uint8_t* next) {
  if (kRowsAlone && columns == 1)
    return multiply_column<Products>(weights, row_bytes, rows, k, x[0], out, next);
  const InOrder order = {weights + static_cast<size_t>(rows) * row_bytes, next};
  for (int64_t r = 0; r < rows;) {
    const bool block = r + kBlockRows <= rows;
    const int64_t after = r + (block ? kBlockRows : 1);
    const uint8_t* const from = weights + static_cast<size_t>(r) * row_bytes;
    const uint8_t* const behind =
        after < rows ? weights + static_cast<size_t>(after) * row_bytes : next;
    const Coming coming = {behind, behind == nullptr ? 0 : kBlockRows * row_bytes};
    order.look_up_pages(from, static_cast<size_t>(after - r) * row_bytes);
    (block ? multiply_rows<Products, kBlockRows> : multiply_rows<Products, 1>)(from, row_bytes, k,
                                                                               x, columns, coming,
                                                                               out + r, out_stride);
    r = after;
  }
}

// body(first, end, next) over even batches of columns, of which each has k activations: `next` is
// where the rows go on after the last.
template <class Body>
void for_each_batch(int64_t columns, int64_t k, const uint8_t* next, const Body& body) {
  const int64_t fit = kHeld / (k > 0 ? k : 1);
  const int64_t width = fit < kBlockColumns  ? kBlockColumns
                        : fit < kMostColumns ? fit
                                             : kMostColumns;
  const int64_t batches = (columns + width - 1) / width;
  for (int64_t i = 0; i < batches; ++i)
    body(columns * i / batches, columns * (i + 1) / batches, i + 1 == batches ? next : nullptr);
}

// kHeight rows of blocks times up to kDecodedColumns columns.
template <int kHeight>
void multiply_decoded(const QuantFormat& format, const uint8_t* weights, size_t row_bytes,
                      int64_t k, const float* const* x, int64_t columns, float* out,
                      int64_t out_stride) {
  using Products = WidenedProducts<kF32>;
  float buffer[kHeight][kStretch];
  Floats sums[kDecodedColumns * kHeight];
  const uint8_t* rows[kHeight];
  for (int r = 0; r < kHeight; ++r) rows[r] = reinterpret_cast<const uint8_t*>(buffer[r]);
  for (int64_t j = 0; j < columns * kHeight; ++j) sums[j] = zero();
  for (int64_t at = 0; at < k; at += kStretch) {
    const int64_t n = k - at < kStretch ? k - at : kStretch;
    for (int r = 0; r < kHeight; ++r)
      dequantize_row(
          format.id,
          weights + static_cast<size_t>(r) * row_bytes + at / format.block * format.bytes,
          buffer[r], n);
    for (int64_t first = 0; first < columns; first += kBlockColumns) {
      const int64_t left = columns - first;
      with_count<kBlockColumns>(left < kBlockColumns ? left : kBlockColumns, [&](auto count) {
        constexpr int kColumns = decltype(count)::value;
        const float* from[kColumns];
        for (int c = 0; c < kColumns; ++c) from[c] = x[first + c] + at;
        add_products<Products, kHeight, kColumns>(rows, from, n, {nullptr, 0},
                                                  sums + first * kHeight);
      });
    }
  }
  for (int64_t c = 0; c < columns; ++c)
    store_sums<kHeight>(sums + c * kHeight, out + c * out_stride);
}

// kernels.h's MatMulFloat for one type: of floats, and of blocks.
template <int kType>
void matmul_float(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                  const float* const* x, int64_t columns, float* out, int64_t out_stride,
                  const uint8_t* next) {
  constexpr bool kFloats = kType == kF32 || kType == kF16 || kType == kBF16;
  if constexpr (kFloats) {
    // Else widening them once for all columns takes less, and gives the same bits.
    if (kWidens || kType == kF32 || columns <= kBlockColumns)
      return for_each_batch(columns, k, next, [&](int64_t first, int64_t end, const uint8_t* then) {
        multiply_floats<WidenedProducts<kType>>(weights, row_bytes, rows, k, x + first, end - first,
                                                out + first * out_stride, out_stride, then);
      });
  }
  const QuantFormat& format = *find_quant(kType);
  for (int64_t first = 0; first < columns; first += kDecodedColumns) {
    const int64_t left = columns - first;
    const int64_t count = left < kDecodedColumns ? left : kDecodedColumns;
    for (int64_t r = 0; r < rows;) {
      const bool block = r + kBlockRows <= rows;
      (block ? multiply_decoded<kBlockRows>
             : multiply_decoded<1>)(format, weights + static_cast<size_t>(r) * row_bytes, row_bytes,
                                    k, x + first, count, out + first * out_stride + r, out_stride);
      r += block ? kBlockRows : 1;
    }
  }
}
