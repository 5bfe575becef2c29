// Scores of so few queries that a vector has room for those of two keys: a unit of one and a unit
// of the other in turn, times each query's unit twice. Sums of integers are exact, so bits are
// those of score_keys.
//
// Besides what attention_scores-inl.h needs, Units<kPack> has pair_rows, each_twice, in_turn and
// scaled_pair.

constexpr int kKeyPairs = kKeyRun / 2;  // of keys that are multiplied at once
static_assert(kSums == kKeyRun || kHalfLanes == kLanes, "a run of pairs fits the registers");

// Two keys' units lie side by side, [units, 2], a pair's not where those of the next would share
// their places in L1.
constexpr int64_t pair_stride(int64_t units) { return 2 * units + kLanes; }

// The keys of a run in pairs. The last position's stands for those behind it, whose scores nobody
// sees. The values of the same positions come closer meanwhile.
template <int kType, int kPack>
void unfold_pairs(const AttentionTile& tile, int64_t from, RowScales<kKeyRun>* scales, float* run) {
  const int64_t stride = pair_stride(units_of<kPack>(tile.head_dim));
  const uint8_t *rows[kKeyRun], *values[kKeyRun];
  for (int64_t i = 0; i < kKeyRun; ++i) {
    const int64_t at = from + i < tile.positions ? from + i : tile.positions - 1;
    rows[i] = tile.keys[at];
    values[i] = tile.values[at];
  }
  find_scales<kType, kPack>(rows, kKeyRun, tile.head_dim, tile.head_dim, scales);
  for (int64_t i = 0; i < kKeyRun; i += 2) {
    float* to = run + i / 2 * stride;
    for (int64_t d = 0; d < tile.head_dim; d += kLanes, to += kLanes) {
      store(to,
            Units<kPack>::pair_rows(load_elements<kType>(rows[i], d), scales->inverse[i],
                                    load_elements<kType>(rows[i + 1], d), scales->inverse[i + 1]));
      fetch_near(values[i + d / kLanes % 2] + d / kLanes / 2 * 64);
    }
  }
}

// Scores [kKeyRun, kHalfLanes] of a run and a panel. Keys further on come closer meanwhile.
template <int kPack>
void multiply_pairs(const float* panel, int64_t units, const float* run, const float* key_scale,
                    const uint8_t* const* further, float* scores) {
  const int64_t stride = pair_stride(units);
  Floats sums[kKeyPairs];
#pragma GCC unroll 8
  for (int p = 0; p < kKeyPairs; ++p) sums[p] = zero();
  for (int64_t u = 0; u < units; ++u) {
    const Floats query = Units<kPack>::each_twice(panel + u * kHalfLanes);
#pragma GCC unroll 8
    for (int p = 0; p < kKeyPairs; ++p) {
      const Floats keys = Units<kPack>::in_turn(run + p * stride + 2 * u);
      sums[p] = Units<kPack>::add_product(keys, query, sums[p]);
    }
    // Rows have as many cache lines as there are units, less the last part of a line.
    fetch_near(further[u % kKeyRun] + u / kKeyRun * 64);
  }
#pragma GCC unroll 8
  for (int p = 0; p < kKeyPairs; ++p)
    store(scores + p * kLanes,
          Units<kPack>::scaled_pair(sums[p], key_scale + 2 * p, panel + units * kHalfLanes));
}

template <int kType, int kPack>
void score_in_pairs(const AttentionTile& tile, float* scores, float* run) {
  for (int64_t from = 0; from < tile.positions; from += kKeyRun) {
    RowScales<kKeyRun> scales;
    unfold_pairs<kType, kPack>(tile, from, &scales, run);
    const uint8_t* further[kKeyRun];
    for (int64_t i = 0; i < kKeyRun; ++i) {
      const int64_t at = from + i + kKeysAhead;
      further[i] = tile.keys[at < tile.known ? at : tile.known - 1];
    }
    multiply_pairs<kPack>(tile.panels, units_of<kPack>(tile.head_dim), run, scales.scale, further,
                          scores + from * kHalfLanes);
  }
}

template <int kType, int kPack>
void score_tile(const AttentionTile& tile, float* scores, float* run) {
  if constexpr (kPack > 1 && kHalfLanes < kLanes)
    if (tile.queries <= kHalfLanes && tile.head_dim % kLanes == 0)
      return score_in_pairs<kType, kPack>(tile, scores, run);
  const auto score = tile.queries > kLanes       ? score_many<kType, kPack>
                     : tile.queries > kHalfLanes ? score_few<kType, kPack, Floats>
                                                 : score_few<kType, kPack, HalfFloats>;
  score(tile, scores, run);
}
