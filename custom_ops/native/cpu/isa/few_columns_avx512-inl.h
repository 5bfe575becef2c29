// Two to four columns of activations on AVX-512, as small batches and activations in two terms have
// them: 16 runs of weights (run_lanes_avx512-inl.h) are unpacked as 16 rows are (tile-inl.h), but
// each lane meets activations of its own, which are put in that order beforehand. (Two columns of
// codes that take no unpacking: run_columns_avx512-inl.h.)

// A column of activations, lane by lane.
struct LaneColumn {
  Ints q[kTileQuads];  // quad i of each lane's run
  LaneGroup groups[kTileGroups];
};

void arrange_lanes(Int8Row x, int runs, LaneColumn* to) {
  const ColumnInLanes lanes(x, runs);
  for (int g = 0; g < kTileGroups; ++g) {
    const int at = g * static_cast<int>(sizeof(Int8Group));
    lanes.take16(at, to->q + 8 * g);
    lanes.take16(at + 16, to->q + 8 * g + 4);
    to->groups[g] = lanes.group(g);
  }
}

// Ahead of 16 runs: into L1, which has room for them beside three columns, or else into L2.
template <class Format, bool kNear>
struct AheadOfRuns {
  const uint8_t* from;
  FERRUM_INLINE void fetch(int group, int count) const {
    constexpr int kBytes = kRuns * Format::kTileBytes / kTileGroups;
    const uint8_t* const first = from + group * kBytes;
    const size_t bytes = static_cast<size_t>(count) * kBytes;
    if (!kNear) return fetch_bytes(first, bytes);
    // A loop: unrolled, it has the compiler regroup, and spill, all that is unpacked.
    for (const uint8_t* p = first; p < first + bytes; p += 64) fetch_once(p);
  }
};

// The column as FewColumns takes it.
template <class Format, bool kNear>
struct InLanes {
  using Fetch = AheadOfRuns<Format, kNear>;
  const LaneColumn* column;

  FERRUM_INLINE const LaneGroup& group(int g) const { return column->groups[g]; }
  template <class Kind>
  FERRUM_INLINE Ints dot(Ints quad, int i, Ints sum) const {
    return _mm512_dpbusd_epi32(sum, quad, column->q[i]);
  }
};

// sums[c] = the products of 16 runs with kColumns columns.
template <class Format, int kColumns>
__attribute__((noinline)) void multiply_lanes(const uint8_t* runs, const uint8_t* ahead,
                                              const LaneColumn* x, Floats* sums) {
  Floats scale[2 * kTileGroups], min[2 * kTileGroups];
  TileIntegers whole;
  FewColumns<Format, kColumns, InLanes<Format, kColumns <= 3>> sink;
  sink.scale = scale;
  sink.min = min;
  sink.whole = &whole;
  sink.ahead = {ahead};
#pragma GCC unroll 4
  for (int c = 0; c < kColumns; ++c) {
    sink.x[c] = {x + c};
    sink.sums[c] = zero();
  }
  Format::unpack(Rows(runs, Format::kTileBytes), kTileGroups, &sink);
#pragma GCC unroll 4
  for (int c = 0; c < kColumns; ++c) sums[c] = sink.sums[c];
}

// The most columns that are multiplied so. None where unpacking takes longer than memory does, for
// then broadcasts of activations are cheaper (docs/bench/speed.md).
template <class Format>
constexpr int kMostLaneColumns = Format::kTileBytes < 128 ? 0 : 4;
template <bool kIntegers>
constexpr int kMostLaneColumns<FormatQ4_K<kIntegers>> = 3;
template <bool kIntegers>
constexpr int kMostLaneColumns<FormatQ5_K<kIntegers>> = 0;  // its high bits leave few registers

// As kernels.h's MatMulInt8, of rows that fit lanes.
template <class Format>
void multiply_few_columns(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                          const Int8Row* x, int64_t columns, float* out, int64_t out_stride,
                          const uint8_t* next) {
  constexpr int kMost = kMostLaneColumns<Format>;
  const RowsInLanes shape(k);
  LaneColumn arranged[kMost];
  for (int64_t c = 0; c < columns; ++c) arrange_lanes(x[c], shape.runs, arranged + c);
  for_each_runs<Format, kMost>(
      weights, row_bytes, rows, shape, columns, out, out_stride, next,
      [&](const uint8_t* runs, const uint8_t* ahead, Floats* sums) FERRUM_INLINED {
        with_count<kMost>(columns, [&](auto count) FERRUM_INLINED {
          multiply_lanes<Format, decltype(count)::value>(runs, ahead, arranged, sums);
        });
      });
}
