// Attention over one tile of positions: scores to softmax numerators, and these times the values.
//
// A query's maximum and sum run down its column of a panel of scores; values are added position by
// position, or two at a time where units are pairs, lanes being head_dim, once for all queries. So
// the bits of a query depend on what it sees alone. What it does not see is never multiplied into
// its sums, and may hold anything.

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

// A panel's weights [positions, width] to units of positions, in place. Each takes the scale of its
// value along; `range` [width] is then what a query's sums are to be multiplied with.
template <int kPack>
void pack_weights(const Panel& panel, const float* value_scale, float* weights, float* range) {
  if constexpr (kPack > 1)
    for (int64_t a = 0; a < panel.width; a += kLanes) {
      const auto weight = [&](int64_t i) {
        return Units<kPack>::weigh(load(weights + i * panel.width + a), value_scale[i]);
      };
      Floats largest = zero(), poison = zero();  // which the largest of numbers would not keep
      for (int64_t i = 0; i < panel.visible; ++i) {
        const Floats w = weight(i);
        largest = max(largest, w);
        poison = fma(w, zero(), poison);
      }
      const Floats inverse = Units<kPack>::inverse_range(largest);
      store(range + a, fma(largest, broadcast(1.0f / kLargest), poison));
      for (int64_t i = 0; i < panel.visible; i += 2) {
        const Floats odd = i + 1 < panel.visible ? weight(i + 1) : zero();
        // Where a vector is wider than the panel, the place behind has been read already.
        store(weights + i / 2 * panel.width + a, Units<kPack>::beside(weight(i), odd, inverse));
      }
    }
}

// Elements d .. d + kColumn - 1 of a tile's values, as they lie in the cache, in units ...
template <int kType, int kPack>
struct CachedValues {
  static constexpr int kUnit = kPack;
  const AttentionTile& tile;
  const float* inverse;
  int64_t d;
  Floats at(int64_t u, int j) const {
    if (j == 0)
      for (int64_t i = u * kPack; i < (u + 1) * kPack; ++i) fetch_next_key(i);
    if constexpr (kPack == 1) {
      return element(u, j);
    } else {
      const int64_t even = 2 * u, odd = even + 1 < tile.positions ? even + 1 : even;
      return Units<kPack>::beside(element(even, j), inverse[even], element(odd, j), inverse[odd]);
    }
  }
  Floats element(int64_t i, int j) const {
    return load_elements<kType>(tile.values[i], d + j * kLanes);
  }
  // The next tile's keys come closer meanwhile.
  void fetch_next_key(int64_t i) const {
    if (tile.positions + i < tile.known)
      fetch_near(tile.keys[tile.positions + i] + d * element_bytes<kType>(),
                 kColumn * element_bytes<kType>());
  }
};

// ... and unfolded.
template <int kPack>
struct WideValues {
  static constexpr int kUnit = kPack;
  const float* column;  // [units of positions, kColumn]
  Floats at(int64_t u, int j) const { return load(column + (2 * u + j) * kLanes); }
};

// A column of kQueries outputs takes the values of units begin .. end - 1, one after the other.
template <int kQueries, class Values>
void add_values(const float* weights, int64_t width, const float* range, const Values& values,
                int64_t begin, int64_t end, float* out, int64_t stride) {
  constexpr bool kExact = Values::kUnit > 1;
  Floats sums[kQueries][2];
#pragma GCC unroll 8
  for (int a = 0; a < kQueries; ++a)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) sums[a][j] = kExact ? zero() : load(out + a * stride + j * kLanes);
  for (int64_t u = begin; u < end; ++u) {
    const Floats value[2] = {values.at(u, 0), values.at(u, 1)};
    const float* const row = weights + u * width;
#pragma GCC unroll 8
    for (int a = 0; a < kQueries; ++a) {
      const Floats weight = broadcast(row[a]);
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j)
        sums[a][j] = Units<Values::kUnit>::add_product(weight, value[j], sums[a][j]);
    }
  }
#pragma GCC unroll 8
  for (int a = 0; a < kQueries; ++a)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      float* const to = out + a * stride + j * kLanes;
      if constexpr (kExact)
        sums[a][j] = fma(Units<Values::kUnit>::floats(sums[a][j]), broadcast(range[a]), load(to));
      store(to, sums[a][j]);
    }
}

// Queries that lie side by side: together what all of them see, then each the rest of it. Exact
// sums take what is not seen as well, with weights of zero.
template <int kQueries, class Values>
void add_seen(const int32_t* seen, const float* weights, int64_t width, const float* range,
              const Values& values, float* out, int64_t stride) {
  const Seen range_seen = range_of(seen, kQueries);
  const int32_t common = Values::kUnit > 1 ? (range_seen.most + 1) / 2 : range_seen.least;
  if (common > 0) add_values<kQueries>(weights, width, range, values, 0, common, out, stride);
  if (Values::kUnit == 1)
    for (int a = 0; a < kQueries; ++a)
      if (seen[a] > common)
        add_values<1>(weights + a, width, range + a, values, common, seen[a], out + a * stride,
                      stride);
}

// A column of all outputs, elements d and following.
template <class Values>
void add_column(const AttentionTile& tile, const float* scores, const float* range,
                const Values& values, int64_t d) {
  const int64_t stride = padded(tile.head_dim);
  for_each_panel(tile, [&](const Panel& panel) {
    const auto add = [&](auto queries, int64_t q) {
      add_seen<queries>(tile.seen + panel.first + q, scores + panel.first * kTilePositions + q,
                        panel.width, range + panel.first + q, values,
                        tile.out + (panel.first + q) * stride + d, stride);
    };
    int64_t q = 0;
    for (; q + kValueQueries <= panel.count; q += kValueQueries) add(Count<kValueQueries>{}, q);
    for (; q + 2 <= panel.count; q += 2) add(Count<2>{}, q);
    if (q < panel.count) add(Count<1>{}, q);
  });
}

// Elements d .. end - 1 of all values, to units [units of positions, kColumn].
template <int kType, int kPack>
void unfold_values(const AttentionTile& tile, const float* inverse, int64_t d, int64_t end,
                   float* column) {
  float values[kPack][kColumn] = {};
  for (int64_t i = 0; i < tile.positions; i += kPack, column += kColumn) {
    const bool pair = kPack > 1 && i + 1 < tile.positions;
    unfold_row<kType, 1>(tile.values[i], d, end, 0, values[0]);
    if (pair) unfold_row<kType, 1>(tile.values[i + 1], d, end, 0, values[kPack - 1]);
    for (int j = 0; j < kColumn; j += kLanes) {
      const Floats first = load(values[0] + j);
      if constexpr (kPack == 1)
        store(column + j, first);
      else
        store(column + j, Units<kPack>::beside(first, inverse[i], load(values[1] + j),
                                               pair ? inverse[i + 1] : 0.0f));
    }
  }
}

template <int kType, int kPack>
void add_tile(const AttentionTile& tile, const float* scores, const float* range,
              const float* inverse, float* wide) {
  for (int64_t d = 0; d < tile.head_dim; d += kColumn) {
    if (d + kColumn <= tile.head_dim && tile.queries <= kValueQueries) {
      add_column(tile, scores, range, CachedValues<kType, kPack>{tile, inverse, d}, d);
      continue;
    }
    const int64_t end = d + kColumn < tile.head_dim ? d + kColumn : tile.head_dim;
    unfold_values<kType, kPack>(tile, inverse, d, end, wide);
    add_column(tile, scores, range, WideValues<kPack>{wide}, d);
  }
}

template <int kType, int kPack>
void take_tile(const AttentionTile& tile) {
  float* const scores = tile.scratch;  // of a panel [positions, width], then its weights
  float* const shrink = scores + padded(tile.queries) * kTilePositions;
  float* const wide = shrink + padded(tile.queries);
  RowScales<kTilePositions> scales;
  score_tile<kType, kPack>(tile, scores, wide);  // which has the values come closer
  find_scales<kType, kPack>(tile.values, tile.positions, tile.head_dim, kTilePositions, &scales);
  for_each_panel(tile, [&](const Panel& panel) {
    if (panel.visible == 0) return;
    float* const own = scores + panel.first * kTilePositions;
    mask_panel(tile, panel, own);
    exponentiate_panel(tile, panel, own, shrink + panel.first);
    pack_weights<kPack>(panel, scales.scale, own, shrink + panel.first);
  });
  add_tile<kType, kPack>(tile, scores, shrink, scales.inverse, wide);
}

template <int kType>
void take_half(const AttentionTile& tile) {
  (tile.narrow ? take_tile<kType, kNarrowPack> : take_tile<kType, 1>)(tile);
}

void attention_tile(const AttentionTile& tile) {
  const auto take = tile.cache_type == kF32   ? take_tile<kF32, 1>
                    : tile.cache_type == kF16 ? take_half<kF16>
                                              : take_half<kBF16>;
  take(tile);
}
