// Products of few columns on AVX-512 with weights read in the order of their addresses: what one
// column (run_columns_avx512-inl.h) and a few (few_columns_avx512-inl.h) share.
//
// Tiles of 16 rows (tile-inl.h) read 16 places at once, which the hardware's prefetchers do not
// follow. Here a lane is no row but a run of 256 values, and 16 runs lie one behind the other: the
// two rows of 2,048 values each, say, or one of 4,096. A row's sum is that of its runs, added up
// one by one, as it is everywhere.

constexpr int kRuns = kLanes;

// One group of activations of each lane's run, in the order of Int8Group's end.
struct LaneGroup {
  Ints scale, pair, sum[2];  // sum: as start or, of a form with minimums, as floats
};
static_assert(offsetof(Int8Group, scale) == 32 && offsetof(Int8Group, pair) == 36 &&
                  offsetof(Int8Group, start) == 40,
              "LaneGroup has these four words");
template <class Kind>
FERRUM_INLINE Ints first_sum(const LaneGroup& x, int half) {
  return Kind::kBias ? x.sum[half] : zero_ints();
}
FERRUM_INLINE Floats scale_of(const LaneGroup& x) { return _mm512_castsi512_ps(x.scale); }
FERRUM_INLINE Floats sum_of(const LaneGroup& x, int half) {
  return _mm512_castsi512_ps(x.sum[half]);
}
FERRUM_INLINE Ints pair_of(const LaneGroup& x) { return x.pair; }

// A row of activations as lanes read it where rows of weights have `runs` runs each: lane i reads
// run i % runs.
class ColumnInLanes {
 public:
  ColumnInLanes(Int8Row x, int runs) : few_(runs <= 8) {
    for (int lane = 0, run = 0; lane < kRuns; ++lane, run = run + 1 == runs ? 0 : run + 1) {
      place_[lane] = reinterpret_cast<const uint8_t*>(x + run * kTileGroups);
      first_[lane] = 4 * run;
    }
  }
  // The 16 bytes of each lane's run from `at` on: out[i] holds bytes 4 i .. 4 i + 3.
  FERRUM_INLINE void take16(int at, Ints* out) const {
    if (!few_) return transpose16(*this, at, out);
    // As many runs as two vectors hold, each loaded once.
    const Ints runs[2] = {load_four(0, at), load_four(4, at)};
    const Ints first = _mm512_loadu_si512(first_);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      out[i] = _mm512_permutex2var_epi32(runs[0], add_ints(first, splat_int(i)), runs[1]);
  }
  FERRUM_INLINE LaneGroup group(int g) const {
    Ints words[4];
    take16(g * static_cast<int>(sizeof(Int8Group)) + 32, words);
    return {words[0], words[1], {words[2], words[3]}};
  }

  // What Rows are to transpose16.
  FERRUM_INLINE const ColumnInLanes& hidden() const { return *this; }
  FERRUM_INLINE const uint8_t* row(int r) const { return place_[r]; }

 private:
  // 16 bytes each of four runs.
  FERRUM_INLINE Ints load_four(int run, int at) const {
    const auto load = [&](int i) FERRUM_INLINED {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(place_[run + i] + at));
    };
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load(0)), load(1), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load(2)), load(3), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }

  const bool few_;
  const uint8_t* place_[kRuns];
  int32_t first_[kRuns];  // where a lane's run begins, in vectors of four runs
};

// The rows of a matrix as 16 lanes take them: so many at once, of so many runs each.
struct RowsInLanes {
  int runs, together;
  Ints first;  // where the runs of the i-th of these rows begin

  // Whether rows of k values are whole runs that leave no more than a quarter of the lanes without.
  static bool fit(int64_t k) {
    const int64_t runs = k / kSuperBlock;
    return k % kSuperBlock == 0 && runs > 0 && runs <= kRuns && kRuns % runs * 4 <= kRuns;
  }
  explicit RowsInLanes(int64_t k)
      : runs(static_cast<int>(k / kSuperBlock)),
        together(kRuns / runs),
        first(mul_ints(splat_int(runs),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))) {}

  // `height` rows of a column from the sums of their runs.
  FERRUM_INLINE void store_rows(Floats sums, int64_t height, float* out) const {
    Floats rows = zero();
    for (int run = 0; run < runs; ++run)
      rows = add(rows, _mm512_permutexvar_ps(add_ints(first, splat_int(run)), sums));
    _mm512_mask_storeu_ps(out, static_cast<__mmask16>((1u << height) - 1), rows);
  }
};

// All rows of a matrix by body(16 runs of weights, what to fetch ahead, sums to fill of each
// column). The last runs are copied out and filled up with zero blocks, so that nothing beyond the
// last row is read.
template <class Format, int kMostColumns, class Body>
FERRUM_INLINE void for_each_runs(const uint8_t* weights, size_t row_bytes, int64_t rows,
                                 const RowsInLanes& shape, int64_t columns, float* out,
                                 int64_t out_stride, const uint8_t* next, const Body& body) {
  alignas(64) uint8_t buffer[kRuns * Format::kTileBytes];
  const InOrder order = {weights + static_cast<size_t>(rows) * row_bytes, next};
  for (int64_t r = 0; r < rows; r += shape.together) {
    const uint8_t* from = weights + static_cast<size_t>(r) * row_bytes;
    const uint8_t* const ahead = order.after(from, kBytesAhead);
    order.look_up_pages(from, sizeof buffer);
    const auto left = static_cast<size_t>(order.end - from);
    if (left < sizeof buffer) {
      memset(buffer, 0, sizeof buffer);
      memcpy(buffer, from, left);
      from = buffer;
    }
    Floats sums[kMostColumns];
    body(from, ahead, sums);
    const int64_t height = rows - r < shape.together ? rows - r : shape.together;
    for (int64_t c = 0; c < columns; ++c)
      shape.store_rows(sums[c], height, out + c * out_stride + r);
  }
}
