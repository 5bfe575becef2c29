// Attention over one tile of positions: scores to softmax numerators, and these times the values.
//
// A query's maximum and sum run down its column of a panel of scores; values are added key by key,
// lanes being head_dim, once for all queries. So the bits of a query depend on what it sees alone.
// What it does not see is never multiplied into its sums, and may hold anything.

constexpr int kColumn = 2 * kLanes;       // elements of values that are taken at a time
constexpr int kValueQueries = kSums / 2;  // queries that gather them at once

template <int n>
using Count = std::integral_constant<int, n>;

// Scores of positions that a query does not see become those of nothing.
void mask_panel(const AttentionTile& tile, const Panel& panel, float* scores) {
  if (panel.level) return;
  for (int64_t a = 0; a < panel.count; ++a)
    for (int64_t i = tile.seen[panel.first + a]; i < panel.visible; ++i)
      scores[i * panel.width + a] = -__builtin_inff();
}

// Where a vector holds two rows: the one combined with the other, in both halves.
template <int kWidth, class Combine>
Floats fold(Floats x, const Combine& combine) {
  if (kWidth >= kLanes) return x;
  float halves[2 * kLanes];
  store(halves, x);
  store(halves + kLanes, x);
  return combine(x, load(halves + kWidth % kLanes));
}

// A vector of running values, repeated for a second row.
template <int kWidth>
Floats load_running(const float* p) {
  if (kWidth >= kLanes) return load(p);
  float twice[kLanes];
  for (int i = 0; i < kLanes; ++i) twice[i] = p[i % kWidth];
  return load(twice);
}

// Scores [rows, kWidth] to exponentials of their distances from the running maximum, and into the
// running sum: even rows and odd ones apart, then both, however many rows a vector holds. `shrink`
// is what everything gathered so far is to be multiplied with.
template <int kWidth>
void exponentiate(float* scores, int64_t rows, float* most, float* sum, float* shrink) {
  constexpr int kTogether = kWidth < kLanes ? 2 : 1, kStep = kWidth < kLanes ? kLanes : kWidth;
  constexpr int kOdd = kTogether == 2 ? 0 : 1;
  if (kTogether == 2 && rows % 2 == 1)
    for (int a = 0; a < kWidth; ++a) scores[rows * kWidth + a] = -__builtin_inff();
  const int64_t vectors = (rows + kTogether - 1) / kTogether;
  for (int j = 0; j < kStep; j += kLanes) {
    float* const column = scores + j;
    Floats top = load(column);
    for (int64_t i = 1; i < vectors; ++i) top = max(top, load(column + i * kStep));
    top = fold<kWidth>(top, [](Floats a, Floats b) { return max(a, b); });
    const Floats before = load_running<kWidth>(most + j), after = max(before, top);
    Floats total[2] = {zero(), zero()};
    const auto take = [&](int64_t i) {
      const Floats e = exp_of(sub(load(column + i * kStep), after));
      store(column + i * kStep, e);
      return e;
    };
    int64_t i = 0;
    for (; i + 2 <= vectors; i += 2) {
      total[0] = add(total[0], take(i));
      total[kOdd] = add(total[kOdd], take(i + 1));
    }
    if (i < vectors) total[0] = add(total[0], take(i));
    const auto plus = [](Floats a, Floats b) { return add(a, b); };
    const Floats sums = kTogether == 2 ? fold<kWidth>(total[0], plus) : add(total[0], total[1]);
    const Floats factor = exp_of(sub(before, after));
    store(sum + j, add(mul(load_running<kWidth>(sum + j), factor), sums));
    store(most + j, after);
    store(shrink + j, factor);
  }
}

void exponentiate_panel(const AttentionTile& tile, const Panel& panel, float* scores,
                        float* shrink) {
  const auto run = panel.width == kPanel   ? exponentiate<kPanel>
                   : panel.width == kLanes ? exponentiate<kLanes>
                                           : exponentiate<kHalfLanes>;
  run(scores, panel.visible, tile.most + panel.first, tile.sum + panel.first, shrink);
  for (int64_t a = 0; a < panel.count; ++a) {
    if (shrink[a] == 1.0f) continue;
    const Floats factor = broadcast(shrink[a]);
    float* const out = tile.out + (panel.first + a) * padded(tile.head_dim);
    for (int64_t d = 0; d < tile.head_dim; d += kLanes) store(out + d, mul(load(out + d), factor));
  }
}

// Elements d .. d + kColumn - 1 of a tile's values, as they lie in the cache ...
template <int kType>
struct CachedValues {
  const uint8_t* const* rows;
  int64_t d;
  Floats at(int64_t i, int j) const { return load_elements<kType>(rows[i], d + j * kLanes); }
};

// ... and widened.
struct WideValues {
  const float* column;  // [positions, kColumn]
  Floats at(int64_t i, int j) const { return load(column + (2 * i + j) * kLanes); }
};

// A column of kQueries outputs takes the values of positions begin .. end - 1, one after the other.
template <int kQueries, class Values>
void add_values(const float* weights, int64_t width, const Values& values, int64_t begin,
                int64_t end, float* out, int64_t stride) {
  Floats sums[kQueries][2];
#pragma GCC unroll 8
  for (int a = 0; a < kQueries; ++a)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) sums[a][j] = load(out + a * stride + j * kLanes);
  for (int64_t i = begin; i < end; ++i) {
    const Floats value[2] = {values.at(i, 0), values.at(i, 1)};
    const float* const row = weights + i * width;
#pragma GCC unroll 8
    for (int a = 0; a < kQueries; ++a) {
      const Floats weight = broadcast(row[a]);
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) sums[a][j] = fma(weight, value[j], sums[a][j]);
    }
  }
#pragma GCC unroll 8
  for (int a = 0; a < kQueries; ++a)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) store(out + a * stride + j * kLanes, sums[a][j]);
}

// Queries that lie side by side: together what all of them see, then each the rest of it.
template <int kQueries, class Values>
void add_seen(const int32_t* seen, const float* weights, int64_t width, const Values& values,
              float* out, int64_t stride) {
  int32_t common = seen[0];
  for (int a = 1; a < kQueries; ++a) common = seen[a] < common ? seen[a] : common;
  if (common > 0) add_values<kQueries>(weights, width, values, 0, common, out, stride);
  for (int a = 0; a < kQueries; ++a)
    if (seen[a] > common)
      add_values<1>(weights + a, width, values, common, seen[a], out + a * stride, stride);
}

// A column of all outputs, elements d and following.
template <class Values>
void add_column(const AttentionTile& tile, const float* scores, const Values& values, int64_t d) {
  const int64_t stride = padded(tile.head_dim);
  for_each_panel(tile, [&](const Panel& panel) {
    const auto add = [&](auto queries, int64_t q) {
      add_seen<queries>(tile.seen + panel.first + q, scores + panel.first * kTilePositions + q,
                        panel.width, values, tile.out + (panel.first + q) * stride + d, stride);
    };
    int64_t q = 0;
    for (; q + kValueQueries <= panel.count; q += kValueQueries) add(Count<kValueQueries>{}, q);
    for (; q + 2 <= panel.count; q += 2) add(Count<2>{}, q);
    if (q < panel.count) add(Count<1>{}, q);
  });
}

template <int kType>
void add_tile(const AttentionTile& tile, const float* scores, float* wide) {
  for (int64_t d = 0; d < tile.head_dim; d += kColumn) {
    if (d + kColumn <= tile.head_dim && tile.queries <= kValueQueries) {
      add_column(tile, scores, CachedValues<kType>{tile.values, d}, d);
      continue;
    }
    const int64_t end = d + kColumn < tile.head_dim ? d + kColumn : tile.head_dim;
    for (int64_t i = 0; i < tile.positions; ++i) {
      if (end - d <= kLanes) store(wide + i * kColumn + kLanes, zero());
      widen_row<kType>(tile.values[i], d, end, wide + i * kColumn);
    }
    add_column(tile, scores, WideValues{wide}, d);
  }
}

template <int kType>
void take_tile(const AttentionTile& tile) {
  float* const scores = tile.scratch;  // of a panel [positions, width], then its weights
  float* const shrink = scores + padded(tile.queries) * kTilePositions;
  float* const wide = shrink + padded(tile.queries);
  score_tile<kType>(tile, scores, wide);
  for_each_panel(tile, [&](const Panel& panel) {
    if (panel.visible == 0) return;
    float* const own = scores + panel.first * kTilePositions;
    mask_panel(tile, panel, own);
    exponentiate_panel(tile, panel, own, shrink + panel.first);
  });
  add_tile<kType>(tile, scores, wide);
}

void attention_tile(const AttentionTile& tile) {
  const auto take = tile.cache_type == kF32   ? take_tile<kF32>
                    : tile.cache_type == kF16 ? take_tile<kF16>
                                              : take_tile<kBF16>;
  take(tile);
}
