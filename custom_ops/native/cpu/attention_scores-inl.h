// Scores of queries and keys, the first half of attention over a tile.
//
// Lanes are queries. `arrange_queries` transposes a block of them into panels [head_dim, width], a
// panel being two vectors wide, or one, or half of one where there are so few. A score is a chain
// over head_dim of key element times query vector: nothing is added across lanes, so that neither
// neighbours nor widths change a query's bits. Keys are widened to float32 a run of positions at a
// time, into L1, where they serve every panel.
//
// Besides floats-inl.h's, the vocabulary has kRegisters, transpose (kLanes vectors, in place) and
// HalfFloats: half a vector, with load_to, broadcast_to, fma and store, or Floats where there are
// no halves.

constexpr int kHalfLanes = sizeof(HalfFloats) / sizeof(float);
constexpr int kPanel = 2 * kLanes;
constexpr int kSums = kRegisters / 2;  // vectors that gather products at once
constexpr int kKeyRun = 16;            // keys widened at a time, and
constexpr int kHeadStretch = 128;      // the elements of theirs that lie together
constexpr int kAhead = 32;  // positions from a key that is widened to one that is fetched
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

template <class Body>
void for_each_panel(const AttentionTile& tile, const Body& body) {
  for (int64_t first = 0; first < tile.queries; first += kPanel) {
    const int64_t rest = tile.queries - first, count = rest < kPanel ? rest : kPanel;
    const int32_t* const seen = tile.seen + first;
    int32_t least = seen[0], most = seen[0];
    for (int64_t a = 1; a < count; ++a) {
      least = seen[a] < least ? seen[a] : least;
      most = seen[a] > most ? seen[a] : most;
    }
    body(Panel{first, count, panel_width(count), most, least == most});
  }
}

// n floats, then zeros.
Floats load_part(const float* p, int64_t n) {
  float part[kLanes] = {};
  memcpy(part, p, static_cast<size_t>(n) * sizeof(float));
  return load(part);
}

// Rows d .. d + kLanes - 1 of a panel, from `count` queries. A row narrower than a vector is stored
// with what lies over its end; the next row, or the padding, takes that place.
void arrange_rows(const float* queries, int64_t count, int64_t head_dim, int64_t d, int64_t width,
                  float* panel) {
  const int64_t rows = head_dim - d < kLanes ? head_dim - d : kLanes;
  Floats lanes[kLanes];
  for (int64_t q = 0; q < width; q += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) {
      const float* const from = queries + (q + i) * head_dim + d;
      lanes[i] = q + i >= count ? zero() : rows == kLanes ? load(from) : load_part(from, rows);
    }
    transpose(lanes);
    for (int64_t i = 0; i < rows; ++i) store(panel + (d + i) * width + q, lanes[i]);
  }
}

void arrange_queries(const float* queries, int64_t count, int64_t head_dim, float* panels) {
  for (int64_t first = 0; first < count; first += kPanel) {
    const int64_t own = count - first < kPanel ? count - first : kPanel;
    for (int64_t d = 0; d < head_dim; d += kLanes)
      arrange_rows(queries + first * head_dim, own, head_dim, d, panel_width(own),
                   panels + first * head_dim);
  }
}

template <int kType>
constexpr int64_t element_bytes() {
  return kType == kF32 ? 4 : 2;
}

// kLanes elements of a cache's row from element i on.
template <int kType>
Floats load_elements(const uint8_t* row, int64_t i) {
  const uint8_t* const p = row + i * element_bytes<kType>();
  if (kType == kF16) return widen_half(p);
  if (kType == kBF16) return widen_bfloat16(p);
  return load(reinterpret_cast<const float*>(p));
}

// Elements `from` to `end` of a row as floats, filled up with zeros to a whole vector.
template <int kType>
void widen_row(const uint8_t* row, int64_t from, int64_t end, float* to) {
  for (; from + kLanes <= end; from += kLanes, to += kLanes)
    store(to, load_elements<kType>(row, from));
  if (from == end) return;
  store(to, zero());
  dequantize_row(kType, row + from * element_bytes<kType>(), to, end - from);
}

// Where element d of a run's key i stands: [stretches, kKeyRun, kHeadStretch].
constexpr int64_t key_place(int64_t i, int64_t d) {
  return (d / kHeadStretch * kKeyRun + i) * kHeadStretch + d % kHeadStretch;
}

// Asks for a cache line that is needed soon, in L2.
void fetch(const uint8_t* p) { __builtin_prefetch(p, 0, 2); }

// Asks for a row.
template <int kType>
void fetch_row(const uint8_t* row, int64_t n) {
  for (int64_t byte = 0; byte < n * element_bytes<kType>(); byte += 64) fetch(row + byte);
}

// The keys of positions from .. end - 1. The values of those positions come closer meanwhile, and
// keys further on.
template <int kType>
void widen_keys(const AttentionTile& tile, int64_t from, int64_t end, float* wide) {
  for (int64_t i = from; i < end; ++i) {
    for (int64_t d = 0; d < tile.head_dim; d += kHeadStretch) {
      const int64_t last = d + kHeadStretch < tile.head_dim ? d + kHeadStretch : tile.head_dim;
      widen_row<kType>(tile.keys[i], d, last, wide + key_place(i - from, d));
    }
    fetch_row<kType>(tile.values[i], tile.head_dim);
    if (i + kAhead < tile.known) fetch_row<kType>(tile.keys[i + kAhead], tile.head_dim);
  }
}

// Scores [keys, width] of kSums / kVectors widened keys and a panel. On the way, ahead(d, e) is
// called for elements d + e, d being a multiple of kLanes.
template <class Vector, int kVectors, class Ahead>
void score_keys(const float* panel, int64_t head_dim, const float* keys, float* scores,
                const Ahead& ahead) {
  constexpr int kKeys = kSums / kVectors, kStep = sizeof(Vector) / sizeof(float);
  Vector sums[kKeys][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kKeys; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) broadcast_to(&sums[i][j], 0.0f);
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    const float* const key = keys + key_place(0, d);
    const int64_t end = head_dim - d < kLanes ? head_dim - d : kLanes;
    for (int64_t e = 0; e < end; ++e, panel += kVectors * kStep) {
      ahead(d, e);
      Vector query[kVectors];
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) load_to(&query[j], panel + j * kStep);
#pragma GCC unroll 16
      for (int i = 0; i < kKeys; ++i) {
        Vector element;
        broadcast_to(&element, key[i * kHeadStretch + e]);
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j) sums[i][j] = fma(element, query[j], sums[i][j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kKeys; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) store(scores + (i * kVectors + j) * kStep, sums[i][j]);
}

// Many queries: a run of keys is widened, then every panel scores it.
template <int kType>
void score_many(const AttentionTile& tile, float* scores, float* wide) {
  const auto nothing = [](int64_t, int64_t) {};
  for (int64_t from = 0; from < tile.positions; from += kKeyRun) {
    const int64_t end = from + kKeyRun < tile.positions ? from + kKeyRun : tile.positions;
    widen_keys<kType>(tile, from, end, wide);
    for_each_panel(tile, [&](const Panel& panel) {
      using Nothing = decltype(nothing);
      const bool pair = panel.width == kPanel;
      const auto score = pair                    ? score_keys<Floats, 2, Nothing>
                         : panel.width == kLanes ? score_keys<Floats, 1, Nothing>
                                                 : score_keys<HalfFloats, 1, Nothing>;
      float* const own = scores + panel.first * kTilePositions;
      for (int64_t i = from; i < end && i < panel.visible; i += pair ? kSums / 2 : kSums)
        score(tile.panels + panel.first * tile.head_dim, tile.head_dim,
              wide + key_place(i - from, 0), own + i * panel.width, nothing);
    });
  }
}

// One run of keys for a panel no wider than a vector. The next run, from position `next` on, is
// widened while this one is scored, a vector at a time: it needs what multiplying leaves idle.
template <int kType, class Vector>
void score_and_widen(const AttentionTile& tile, int64_t next, const float* keys, float* scores,
                     float* wide) {
  const uint8_t *rows[kSums], *values[kSums], *further[kSums];
  for (int64_t i = 0; i < kSums; ++i) {
    const auto known = [&](int64_t at) { return at < tile.known ? at : tile.known - 1; };
    rows[i] = tile.keys[known(next + i)];
    values[i] = tile.values[known(next + i)];
    further[i] = tile.keys[known(next + i + kAhead)];
  }
  const int64_t whole = tile.head_dim / kLanes * kLanes;
  if (whole < tile.head_dim)
    for (int i = 0; i < kSums; ++i)
      widen_row<kType>(rows[i], whole, tile.head_dim, wide + key_place(i, whole));
  score_keys<Vector, 1>(tile.panels, tile.head_dim, keys, scores, [&](int64_t d, int64_t e) {
    if (d == whole) return;
    const int64_t byte = d * element_bytes<kType>();
    for (int64_t i = e; i < kSums; i += kLanes) {
      store(wide + key_place(i, d), load_elements<kType>(rows[i], d));
      if (byte % 64 != 0) continue;
      fetch(values[i] + byte);
      fetch(further[i] + byte);
    }
  });
}

template <int kType, class Vector>
void score_few(const AttentionTile& tile, float* scores, float* wide) {
  constexpr int64_t kWidth = sizeof(Vector) / sizeof(float);
  // 64 floats more than would do: stores to one run shall not look like loads from the other.
  float* next = wide + key_place(0, padded(tile.head_dim, kHeadStretch)) + 64;
  widen_keys<kType>(tile, 0, tile.positions < kSums ? tile.positions : kSums, wide);
  for (int64_t from = 0; from < tile.positions; from += kSums) {
    score_and_widen<kType, Vector>(tile, from + kSums, wide, scores + from * kWidth, next);
    float* const done = wide;
    wide = next;
    next = done;
  }
}

template <int kType>
void score_tile(const AttentionTile& tile, float* scores, float* wide) {
  const auto score = tile.queries > kLanes       ? score_many<kType>
                     : tile.queries > kHalfLanes ? score_few<kType, Floats>
                                                 : score_few<kType, HalfFloats>;
  score(tile, scores, wide);
}
