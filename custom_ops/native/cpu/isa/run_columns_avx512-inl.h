// One column of activations, as decode has it, on AVX-512, and two where codes take no unpacking,
// against 16 runs of weights (run_lanes_avx512-inl.h): each run's codes meet their activations
// where they lie and are added up across lanes to a dot product per group; 16 runs' dot products
// are transposed; then scales, minimums and sums go on as in tiles, run by run instead of row by
// row, with the same roundings in the same order.

// A row of activations as 16 runs of weights meet it, of which each row has `runs`.
struct RunColumn {
  Ints q[kRuns][kCodeVectors];  // by run, in the order of the format's codes
  LaneGroup groups[kTileGroups];
};

template <CodeOrder kOrder>
void arrange(Int8Row x, int runs, RunColumn* to) {
  for (int run = 0; run < runs; ++run)
#pragma GCC unroll 4
    for (int i = 0; i < kCodeVectors; ++i)
#pragma GCC unroll 4
      for (int quarter = 0; quarter < 4; ++quarter) {
        const int half = half_at(kOrder, i, quarter);
        memcpy(reinterpret_cast<uint8_t*>(&to->q[run][i]) + 16 * quarter,
               x[run * kTileGroups + half / 2].q + half % 2 * 16, 16);
      }
  const ColumnInLanes lanes(x, runs);
  for (int g = 0; g < kTileGroups; ++g) to->groups[g] = lanes.group(g);
}

// Two neighbours of a's lanes and of b's added up: a's sums in lanes 4 l and 4 l + 2, b's beside.
FERRUM_INLINE Ints fold(Ints a, Ints b) {
  return add_ints(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
// Halves of quarters added up: a's in the lower half, b's in the upper.
FERRUM_INLINE Ints fold_halves(Ints a, Ints b) {
  return add_ints(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// Quarters of vectors: v[i]'s quarter j becomes out[j]'s quarter i.
FERRUM_INLINE void turn_quarters(Ints a, Ints b, Ints c, Ints d, Ints* out) {
  const Ints ab_even = _mm512_shuffle_i32x4(a, b, 0x88), ab_odd = _mm512_shuffle_i32x4(a, b, 0xdd);
  const Ints cd_even = _mm512_shuffle_i32x4(c, d, 0x88), cd_odd = _mm512_shuffle_i32x4(c, d, 0xdd);
  out[0] = _mm512_shuffle_i32x4(ab_even, cd_even, 0x88);
  out[1] = _mm512_shuffle_i32x4(ab_odd, cd_odd, 0x88);
  out[2] = _mm512_shuffle_i32x4(ab_even, cd_even, 0xdd);
  out[3] = _mm512_shuffle_i32x4(ab_odd, cd_odd, 0xdd);
}

// The same, quarters 0 and 1 added up, and 2 and 3.
FERRUM_INLINE void add_quarter_pairs(Ints a, Ints b, Ints c, Ints d, Ints* out) {
  const auto pairs = [](Ints x, Ints y) FERRUM_INLINED {
    return add_ints(_mm512_shuffle_i32x4(x, y, 0x88), _mm512_shuffle_i32x4(x, y, 0xdd));
  };
  const Ints ab = pairs(a, b), cd = pairs(c, d);
  out[0] = _mm512_shuffle_i32x4(ab, cd, 0x88);
  out[1] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
}

// One run's dot products with its activations, partly added up. Lane 4 l + i: of quarter l of code
// vector i; where groups are nibbles of 16 bytes, of half of group l (i is 0 or 2), or of 4 + l.
template <class Format>
FERRUM_INLINE Ints dot_run(const Ints* codes, const Ints* q) {
  Ints dot[kCodeVectors];
  constexpr bool kChained = RunOf<Format>::kOrder == CodeOrder::nibble_halves;
#pragma GCC unroll 4
  for (int i = 0; i < kCodeVectors; ++i)
    dot[i] = _mm512_dpbusd_epi32(kChained && i % 2 == 1 ? dot[i - 1] : zero_ints(), codes[i], q[i]);
  if constexpr (kChained) return fold(dot[1], dot[3]);
  return fold_halves(fold(dot[0], dot[1]), fold(dot[2], dot[3]));
}

// From a vector per run to one per group, or per half group, with a lane per run.
template <class Format>
FERRUM_INLINE void turn_dots(const Ints* runs, Ints* dots) {
  constexpr int kParts = Format::kHalves ? 4 : 2;  // of a code vector
  Ints quarters[kParts][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    Ints turned[kParts];
    if constexpr (Format::kHalves)
      turn_quarters(runs[i], runs[4 + i], runs[8 + i], runs[12 + i], turned);
    else
      add_quarter_pairs(runs[i], runs[4 + i], runs[8 + i], runs[12 + i], turned);
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part) quarters[part][i] = turned[part];
  }
#pragma GCC unroll 4
  for (int part = 0; part < kParts; ++part) {
    Ints vectors[kCodeVectors];
    turn_lanes(quarters[part], vectors);
#pragma GCC unroll 4
    for (int i = 0; i < kCodeVectors; ++i) {
      const int half = half_at(RunOf<Format>::kOrder, i, part * 4 / kParts);
      dots[Format::kHalves ? half : half / 2] = vectors[i];
    }
  }
}

// Two lanes of each quarter of a, then two of b.
template <int kWhich>
FERRUM_INLINE Ints pick_lanes(Ints a, Ints b) {
  return _mm512_castps_si512(
      _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), kWhich));
}

// The same where groups are nibbles of 16 bytes.
FERRUM_INLINE void turn_nibble_dots(const Ints* runs, Ints* dots) {
  Ints quarters[2][4];  // of runs 0, 1, 4, 5, 8, ... and the others: groups l and 4 + l in turns
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const auto two = [&](int run) FERRUM_INLINED {
      return fold_halves(runs[run + 2 * i], runs[run + 2 * i + 1]);
    };
    turn_quarters(two(0), two(4), two(8), two(12), quarters[i]);
  }
#pragma GCC unroll 4
  for (int l = 0; l < 4; ++l) {
    dots[l] = pick_lanes<0x88>(quarters[0][l], quarters[1][l]);
    dots[4 + l] = pick_lanes<0xdd>(quarters[0][l], quarters[1][l]);
  }
}

// Scales of kRuns runs, as formats put them.
struct RunScales {
  Floats scale[2 * kTileGroups], min[2 * kTileGroups];
  TileIntegers integers;
};

// The sums of kRuns runs from their dot products, as tile-inl.h's FewColumns closes groups.
template <class Format>
FERRUM_INLINE Floats close_runs(const Ints* dots, const RunScales& scales, const LaneGroup* x) {
  using Kind = ShapeOf<Format>;
  constexpr int kParts = Format::kHalves ? 2 : 1;
  Floats sum = zero();
  Ints product;
#pragma GCC unroll 8
  for (int g = 0; g < kTileGroups; ++g) {
    Ints dot[kParts];
#pragma GCC unroll 2
    for (int i = 0; i < kParts; ++i)
      dot[i] = Kind::kBias ? add_ints(dots[kParts * g + i], x[g].sum[i]) : dots[kParts * g + i];
    if constexpr (!Kind::kIntegers) {
      sum = add_group<Kind>(dot[0], dot[kParts - 1], scales.scale, scales.min, g, x[g], sum);
    } else {
      const Ints scaled = mul_ints(dot[0], scales.integers.factor[g]);
      product = g % kBlockGroups == 0 ? scaled : add_ints(product, scaled);
      if (g % kBlockGroups + 1 == kBlockGroups)
        sum = add_block(product, scales.integers, g / kBlockGroups, x + g + 1 - kBlockGroups, sum);
    }
  }
  return sum;
}

// sums[c] = those of the first `used` of 16 runs from `first` on with column c; what other lanes
// hold is nobody's.
template <class Format, int kColumns>
__attribute__((noinline)) void multiply_runs(const uint8_t* first, const RunColumn* x, int runs,
                                             int used, const uint8_t* ahead, Floats* sums) {
  Ints halves[kColumns][kRuns];
  const uint8_t* run = first;
  for (int lane = 0, of_row = 0; lane < used; ++lane) {
#pragma GCC unroll 5
    for (int i = 0; i < Format::kTileBytes; i += 64) fetch_once(ahead + i);
    ahead += Format::kTileBytes;
    Ints codes[kCodeVectors];
    RunOf<Format>::codes(run, codes);
#pragma GCC unroll 2
    for (int c = 0; c < kColumns; ++c) halves[c][lane] = dot_run<Format>(codes, x[c].q[of_row]);
    run += Format::kTileBytes;
    if (++of_row == runs) of_row = 0;
  }
  RunScales scales;
  RunOf<Format>::scales(Rows(first, Format::kTileBytes), &scales);
#pragma GCC unroll 2
  for (int c = 0; c < kColumns; ++c) {
    for (int lane = used; lane < kRuns; ++lane) halves[c][lane] = zero_ints();
    Ints dots[2 * kTileGroups];
    if constexpr (RunOf<Format>::kOrder == CodeOrder::nibble_halves)
      turn_nibble_dots(halves[c], dots);
    else
      turn_dots<Format>(halves[c], dots);
    sums[c] = close_runs<Format>(dots, scales, x[c].groups);
  }
}

// The most columns that are multiplied so: two where unpacking them is next to nothing.
template <class Format>
constexpr int kMostRunColumns = Format::kTileBytes < 256 ? 1 : 2;

// As kernels.h's MatMulInt8, of rows that fit lanes.
template <class Format>
void multiply_run_columns(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                          const Int8Row* x, int64_t columns, float* out, int64_t out_stride,
                          const uint8_t* next) {
  constexpr int kMost = kMostRunColumns<Format>;
  const RowsInLanes shape(k);
  RunColumn arranged[kMost];
  for (int64_t c = 0; c < columns; ++c)
    arrange<RunOf<Format>::kOrder>(x[c], shape.runs, arranged + c);
  for_each_runs<Format, kMost>(
      weights, row_bytes, rows, shape, columns, out, out_stride, next,
      [&](const uint8_t* runs, const uint8_t* ahead, Floats* sums) FERRUM_INLINED {
        with_count<kMost>(columns, [&](auto count) FERRUM_INLINED {
          multiply_runs<Format, decltype(count)::value>(runs, arranged, shape.runs,
                                                        shape.together * shape.runs, ahead, sums);
        });
      });
}
