// Scores of queries and keys, the first half of attention over a tile.
//
// Lanes are queries. `arrange_queries` transposes a block of them into panels [units, width], a
// panel being two vectors wide, or one, or half of one where there are so few; a unit is an element
// of head_dim, or two (attention_units-inl.h). A score is a chain over units of key times query
// vector: nothing is added across lanes, so that neither neighbours nor widths change a query's
// bits. Keys are brought to units a run of positions at a time, into L1, where they serve every
// panel.
//
// Besides floats-inl.h's, the vocabulary has kRegisters, transpose (kLanes vectors, in place),
// HalfFloats: half a vector, with load_to, broadcast_to, fma and store, or Floats where there are
// no halves; and kNarrowPack, how many elements a unit has where products may be narrow.

constexpr int kHalfLanes = sizeof(HalfFloats) / sizeof(float);
constexpr int kPanel = 2 * kLanes;
constexpr int kSums = kRegisters / 2;  // vectors that gather products at once
constexpr int kKeyRun = 16;            // keys widened at a time, and
constexpr int kHeadStretch = 128;      // the units of theirs that lie together
static_assert(kPanel <= kPadding && kSums <= kKeyRun && kTilePositions % kKeyRun == 0,
              "panels fit the padding and rows beyond the last position the tile");
static_assert(kHeadStretch % kLanes == 0 && kTilePositions % kHeadStretch == 0,
              "a vector of keys lies in one stretch and two runs fit the scratch memory");

void load_to(Floats* x, const float* p) { *x = load(p); }
void broadcast_to(Floats* x, float value) { *x = broadcast(value); }

// Queries of a tile that lie side by side. What they own of an array [queries, n] for all panels
// begins at first * n.
struct Panel {
  int64_t first, count, width;
  int64_t visible;  // positions that the furthest of them sees
  bool level;       // all of them see as many
};

int64_t panel_width(int64_t queries) {
  return queries <= kHalfLanes ? kHalfLanes : queries <= kLanes ? kLanes : kPanel;
}

// The fewest and the most positions that some queries see.
struct Seen {
  int32_t least, most;
};

Seen range_of(const int32_t* seen, int64_t count) {
  Seen range = {seen[0], seen[0]};
  for (int64_t a = 1; a < count; ++a) {
    range.least = seen[a] < range.least ? seen[a] : range.least;
    range.most = seen[a] > range.most ? seen[a] : range.most;
  }
  return range;
}

template <class Body>
void for_each_panel(const AttentionTile& tile, const Body& body) {
  for (int64_t first = 0; first < tile.queries; first += kPanel) {
    const int64_t rest = tile.queries - first, count = rest < kPanel ? rest : kPanel;
    const Seen seen = range_of(tile.seen + first, count);
    body(Panel{first, count, panel_width(count), seen.most, seen.least == seen.most});
  }
}

// n floats, or as many as there are lanes, then zeros.
Floats load_part(const float* p, int64_t n) {
  if (n >= kLanes) return load(p);
  if (n <= 0) return zero();
  float part[kLanes] = {};
  memcpy(part, p, static_cast<size_t>(n) * sizeof(float));
  return load(part);
}

// n floats, then zeros, as a vector of units.
template <int kPack>
Floats pack_part(const float* p, int64_t n, float inverse) {
  if constexpr (kPack == 1)
    return load_part(p, n);
  else
    return Units<kPack>::pack(load_part(p, n), load_part(p + kLanes, n - kLanes), inverse);
}

template <int kPack>
constexpr int64_t units_of(int64_t head_dim) {
  return (head_dim + kPack - 1) / kPack;
}

// Rows u .. u + kLanes - 1 of a panel, from `count` queries. A row narrower than a vector is stored
// with what lies over its end; the next row, or the padding, takes that place.
template <int kPack>
void arrange_rows(const float* queries, int64_t count, int64_t head_dim, int64_t u, int64_t width,
                  const float* inverse, float* panel) {
  const int64_t units = units_of<kPack>(head_dim), rows = units - u < kLanes ? units - u : kLanes;
  Floats lanes[kLanes];
  for (int64_t q = 0; q < width; q += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i)
      lanes[i] = q + i >= count ? zero()
                                : pack_part<kPack>(queries + (q + i) * head_dim + u * kPack,
                                                   head_dim - u * kPack, inverse[q + i]);
    transpose(lanes);
    for (int64_t i = 0; i < rows; ++i) store(panel + (u + i) * width + q, lanes[i]);
  }
}

// One panel: units [units, width], then, where they are integers, the queries' scales [width].
template <int kPack>
void arrange_panel(const float* queries, int64_t count, int64_t head_dim, float* panel) {
  const int64_t units = units_of<kPack>(head_dim), width = panel_width(count);
  RowScales<kPanel> scales = {};
  if constexpr (kPack > 1) {
    float largest[kPanel] = {};
    for (int64_t q = 0; q < count; ++q)
      largest[q] = float_from_bits(largest_bits(queries + q * head_dim, head_dim));
    for (int64_t q = 0; q < width; q += kLanes)
      scales.template set<kPack>(q, largest + q, largest_integer(head_dim));
  }
  for (int64_t u = 0; u < units; u += kLanes)
    arrange_rows<kPack>(queries, count, head_dim, u, width, scales.inverse, panel);
  if (kPack > 1)
    memcpy(panel + units * width, scales.scale, static_cast<size_t>(width) * sizeof(float));
}

void arrange_queries(const float* queries, int64_t count, int64_t head_dim, int cache_type,
                     bool narrow, float* panels) {
  const bool packed = narrow && cache_type != kF32;
  const auto arrange = packed ? arrange_panel<kNarrowPack> : arrange_panel<1>;
  for (int64_t first = 0; first < count; first += kPanel)
    arrange(queries + first * head_dim, count - first < kPanel ? count - first : kPanel, head_dim,
            panels + first * head_dim);
}

// kLanes units of a cache's row from element i on.
template <int kType, int kPack>
Floats load_units(const uint8_t* row, int64_t i, float inverse) {
  if constexpr (kPack == 1)
    return load_elements<kType>(row, i);
  else
    return Units<kPack>::pack(load_elements<kType>(row, i), load_elements<kType>(row, i + kLanes),
                              inverse);
}

// Elements `from` to `end` of a row as units, filled up with zeros to a whole vector.
template <int kType, int kPack>
void unfold_row(const uint8_t* row, int64_t from, int64_t end, float inverse, float* to) {
  constexpr int64_t kStep = kPack * kLanes;
  for (; from + kStep <= end; from += kStep, to += kLanes)
    store(to, load_units<kType, kPack>(row, from, inverse));
  if (from == end) return;
  float rest[kStep];
  dequantize_row(kType, row + from * element_bytes<kType>(), rest, end - from);
  store(to, pack_part<kPack>(rest, end - from, inverse));
}

// The scales of `count` rows of a cache, of n elements each, whose products with others are added
// by `added`.
template <int kType, int kPack, int kCount>
void find_scales(const uint8_t* const* rows, int64_t count, int64_t n, int64_t added,
                 RowScales<kCount>* scales) {
  if constexpr (kPack > 1) {
    const float limit = largest_integer(added);
    const int64_t whole = n / kLanes * kLanes;
    for (int64_t first = 0; first < count; first += kLanes) {
      const uint8_t* own[kLanes];  // the last one in place of those that there are not
      for (int64_t i = 0; i < kLanes; ++i) own[i] = rows[first + i < count ? first + i : count - 1];
      float largest[kLanes];
      store(largest, Units<kPack>::template largest_of_rows<kType>(own, whole));
      for (int64_t i = 0; i < kLanes && whole < n; ++i) {
        float rest[kLanes];
        dequantize_row(kType, own[i] + whole * element_bytes<kType>(), rest, n - whole);
        const uint32_t tail = largest_bits(rest, n - whole);
        if (tail > bits_of_float(largest[i])) largest[i] = float_from_bits(tail);
      }
      scales->template set<kPack>(first, largest, limit);
    }
  }
}

// Where unit u of a run's key i stands: [stretches, kKeyRun, kHeadStretch]. After the units stands
// the key's scale, where they are integers.
constexpr int64_t key_place(int64_t i, int64_t u) {
  return (u / kHeadStretch * kKeyRun + i) * kHeadStretch + u % kHeadStretch;
}

// The keys of positions from .. end - 1. The values of those positions come closer meanwhile, and
// keys further on.
template <int kType, int kPack>
void unfold_keys(const AttentionTile& tile, int64_t from, int64_t end, float* run) {
  constexpr int64_t kElements = kHeadStretch * kPack;
  const auto row_bytes = static_cast<size_t>(tile.head_dim * element_bytes<kType>());
  RowScales<kKeyRun> scales;
  find_scales<kType, kPack>(tile.keys + from, end - from, tile.head_dim, tile.head_dim, &scales);
  for (int64_t i = from; i < end; ++i) {
    const float inverse = kPack > 1 ? scales.inverse[i - from] : 1.0f;
    for (int64_t d = 0; d < tile.head_dim; d += kElements) {
      const int64_t last = d + kElements < tile.head_dim ? d + kElements : tile.head_dim;
      unfold_row<kType, kPack>(tile.keys[i], d, last, inverse,
                               run + key_place(i - from, d / kPack));
    }
    if (kPack > 1)
      run[key_place(i - from, units_of<kPack>(tile.head_dim))] = scales.scale[i - from];
    fetch_bytes(tile.values[i], row_bytes);
    if (i + kKeysAhead < tile.known) fetch_bytes(tile.keys[i + kKeysAhead], row_bytes);
  }
}

// Scores [keys, width] of kSums / kVectors unfolded keys and a panel. On the way, ahead(u, e) is
// called for units u + e, u being a multiple of kLanes.
template <class Vector, int kVectors, int kPack, class Ahead>
void score_keys(const float* panel, int64_t units, const float* keys, float* scores,
                const Ahead& ahead) {
  constexpr int kKeys = kSums / kVectors, kStep = sizeof(Vector) / sizeof(float);
  Vector sums[kKeys][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kKeys; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) broadcast_to(&sums[i][j], 0.0f);
  for (int64_t u = 0; u < units; u += kLanes) {
    const float* const key = keys + key_place(0, u);
    const int64_t end = units - u < kLanes ? units - u : kLanes;
#pragma GCC unroll 2  // else gcc copies all sums in every round
    for (int64_t e = 0; e < end; ++e, panel += kVectors * kStep) {
      ahead(u, e);
      Vector query[kVectors];
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) load_to(&query[j], panel + j * kStep);
#pragma GCC unroll 16
      for (int i = 0; i < kKeys; ++i) {
        Vector unit;
        broadcast_to(&unit, key[i * kHeadStretch + e]);
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j)
          sums[i][j] = Units<kPack>::add_product(unit, query[j], sums[i][j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kKeys; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      if constexpr (kPack > 1)  // the panel's scales lie where its units end
        sums[i][j] = Units<kPack>::scaled(sums[i][j], keys[key_place(i, units)], panel + j * kStep);
      store(scores + (i * kVectors + j) * kStep, sums[i][j]);
    }
}

// Many queries: a run of keys is unfolded, then every panel scores it.
template <int kType, int kPack>
void score_many(const AttentionTile& tile, float* scores, float* run) {
  const auto nothing = [](int64_t, int64_t) {};
  for (int64_t from = 0; from < tile.positions; from += kKeyRun) {
    const int64_t end = from + kKeyRun < tile.positions ? from + kKeyRun : tile.positions;
    unfold_keys<kType, kPack>(tile, from, end, run);
    for_each_panel(tile, [&](const Panel& panel) {
      using Nothing = decltype(nothing);
      const bool pair = panel.width == kPanel;
      const auto score = pair                    ? score_keys<Floats, 2, kPack, Nothing>
                         : panel.width == kLanes ? score_keys<Floats, 1, kPack, Nothing>
                                                 : score_keys<HalfFloats, 1, kPack, Nothing>;
      float* const own = scores + panel.first * kTilePositions;
      for (int64_t i = from; i < end && i < panel.visible; i += pair ? kSums / 2 : kSums)
        score(tile.panels + panel.first * tile.head_dim, units_of<kPack>(tile.head_dim),
              run + key_place(i - from, 0), own + i * panel.width, nothing);
    });
  }
}

// One run of keys for a panel no wider than a vector. The next run, from position `next` on, is
// unfolded while this one is scored, a vector at a time: it needs what multiplying leaves idle.
template <int kType, int kPack, class Vector>
void score_and_unfold(const AttentionTile& tile, int64_t next, const float* keys, float* scores,
                      float* run) {
  const uint8_t *rows[kSums], *values[kSums], *further[kSums];
  for (int64_t i = 0; i < kSums; ++i) {
    const auto known = [&](int64_t at) { return at < tile.known ? at : tile.known - 1; };
    rows[i] = tile.keys[known(next + i)];
    values[i] = tile.values[known(next + i)];
    further[i] = tile.keys[known(next + i + kKeysAhead)];
  }
  RowScales<kSums> scales;
  find_scales<kType, kPack>(rows, kSums, tile.head_dim, tile.head_dim, &scales);
  const auto inverse = [&](int64_t i) { return kPack > 1 ? scales.inverse[i] : 1.0f; };
  const int64_t whole = tile.head_dim / (kLanes * kPack) * kLanes;  // units in whole vectors
  if (whole * kPack < tile.head_dim)
    for (int i = 0; i < kSums; ++i)
      unfold_row<kType, kPack>(rows[i], whole * kPack, tile.head_dim, inverse(i),
                               run + key_place(i, whole));
  const int64_t units = units_of<kPack>(tile.head_dim);
  if (kPack > 1)
    for (int i = 0; i < kSums; ++i) run[key_place(i, units)] = scales.scale[i];
  score_keys<Vector, 1, kPack>(tile.panels, units, keys, scores, [&](int64_t u, int64_t e) {
    if (u == whole) return;
    const int64_t byte = u * kPack * element_bytes<kType>();
    for (int64_t i = e; i < kSums; i += kLanes) {
      store(run + key_place(i, u), load_units<kType, kPack>(rows[i], u * kPack, inverse(i)));
      if (byte % 64 != 0) continue;
      fetch(values[i] + byte);
      fetch(further[i] + byte);
    }
  });
}

template <int kType, int kPack, class Vector>
void score_few(const AttentionTile& tile, float* scores, float* run) {
  constexpr int64_t kWidth = sizeof(Vector) / sizeof(float);
  // 64 floats more than would do: stores to one run shall not look like loads from the other.
  const int64_t units = units_of<kPack>(tile.head_dim) + (kPack > 1 ? 1 : 0);
  float* next = run + key_place(0, padded(units, kHeadStretch)) + 64;
  unfold_keys<kType, kPack>(tile, 0, tile.positions < kSums ? tile.positions : kSums, run);
  for (int64_t from = 0; from < tile.positions; from += kSums) {
    score_and_unfold<kType, kPack, Vector>(tile, from + kSums, run, scores + from * kWidth, next);
    float* const done = run;
    run = next;
    next = done;
  }
}
