// Attention tiles over the vector vocabulary: scores of keys, exponentials, weighted values.
//
// The caches hold F32, F16 or BF16. Keys and values are widened to float32 a few at a time, into
// L1, and then serve every query. A score is one dot product, lane by lane and then across lanes in
// an order that head_dim fixes; values are added key by key. So neither the tile's size nor the
// number of queries changes any bit. Besides floats-inl.h's, the vocabulary has reduce_lanes
// (kLanes vectors to the vector of their sums).

constexpr int64_t kHeadStretch = 256;  // of head_dim at a time; longer heads take several
constexpr int64_t kValueRun = 16;      // values widened at a time
constexpr int kOutVectors = 8;         // of an output that rest in registers over a run

template <int kType>
constexpr int64_t element_bytes() {
  return kType == kF32 ? 4 : 2;
}

// n elements of a head as floats, filled up with zeros to whole vectors.
template <int kType>
void widen_head(const void* base, int64_t at, int64_t n, float* to) {
  const uint8_t* from = static_cast<const uint8_t*>(base) + at * element_bytes<kType>();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    store(to + i, kType == kF16    ? widen_half(from + 2 * i)
                  : kType == kBF16 ? widen_bfloat16(from + 2 * i)
                                   : load(reinterpret_cast<const float*>(from) + i));
  if (i == n) return;
  store(to + i, zero());
  dequantize_row(kType, from + i * element_bytes<kType>(), to + i, n - i);
}

// The scores of kLanes widened keys for one query, from one stretch of the head.
Floats score_lanes(const float* query, const float (*keys)[kHeadStretch], int64_t vectors) {
  Floats sums[kLanes];
  for (int i = 0; i < kLanes; ++i) sums[i] = zero();
  for (int64_t d = 0; d < vectors * kLanes; d += kLanes) {
    const Floats q = load(query + d);
    for (int i = 0; i < kLanes; ++i) sums[i] = fma(q, load(keys[i] + d), sums[i]);
  }
  return reduce_lanes(sums);
}

void put_scores(Floats lanes, int64_t count, bool add_to, float* scores) {
  float sums[kLanes];
  store(sums, lanes);
  for (int64_t i = 0; i < count; ++i) scores[i] = add_to ? scores[i] + sums[i] : sums[i];
}

template <int kType>
void scores_of(const float* queries, int64_t query_stride, int64_t query_count, const void* keys,
               int64_t key_stride, int64_t key_count, int64_t head_dim, float* scores,
               int64_t scores_stride) {
  alignas(64) float wide[kLanes][kHeadStretch];
  alignas(64) float ragged[kHeadStretch];
  for (int64_t from = 0; from < head_dim; from += kHeadStretch) {
    const int64_t n = head_dim - from < kHeadStretch ? head_dim - from : kHeadStretch;
    const int64_t vectors = (n + kLanes - 1) / kLanes;
    for (int64_t first = 0; first < key_count; first += kLanes) {
      const int64_t count = key_count - first < kLanes ? key_count - first : kLanes;
      for (int64_t i = 0; i < count; ++i)
        widen_head<kType>(keys, (first + i) * key_stride + from, n, wide[i]);
      for (int64_t i = count; i < kLanes; ++i)  // lanes that nobody reads
        for (int64_t d = 0; d < vectors * kLanes; d += kLanes) store(wide[i] + d, zero());
      for (int64_t a = 0; a < query_count; ++a) {
        const float* query = queries + a * query_stride + from;
        if (n % kLanes != 0) {
          widen_head<kF32>(query, 0, n, ragged);
          query = ragged;
        }
        put_scores(score_lanes(query, wide, vectors), count, from > 0,
                   scores + a * scores_stride + first);
      }
    }
  }
}

void attention_scores(const float* queries, int64_t query_stride, int64_t query_count,
                      const void* keys, int cache_type, int64_t key_stride, int64_t key_count,
                      int64_t head_dim, float* scores, int64_t scores_stride) {
  const auto run = cache_type == kF32   ? scores_of<kF32>
                   : cache_type == kF16 ? scores_of<kF16>
                                        : scores_of<kBF16>;
  run(queries, query_stride, query_count, keys, key_stride, key_count, head_dim, scores,
      scores_stride);
}

// kVectors vectors of one query's output take `count` widened values, one after the other.
template <int kVectors>
void add_values(const float* weights, const float (*values)[kHeadStretch], int64_t count, int64_t d,
                float* out) {
  Floats sums[kVectors];
  for (int j = 0; j < kVectors; ++j) sums[j] = load(out + j * kLanes);
  for (int64_t i = 0; i < count; ++i) {
    const Floats weight = broadcast(weights[i]);
    for (int j = 0; j < kVectors; ++j)
      sums[j] = fma(weight, load(values[i] + d + j * kLanes), sums[j]);
  }
  for (int j = 0; j < kVectors; ++j) store(out + j * kLanes, sums[j]);
}

void add_run(const float* weights, const float (*values)[kHeadStretch], int64_t count, int64_t n,
             float* out) {
  constexpr int64_t kWide = kOutVectors * kLanes;
  int64_t d = 0;
  for (; d + kWide <= n; d += kWide) add_values<kOutVectors>(weights, values, count, d, out + d);
  for (; d + kLanes <= n; d += kLanes) add_values<1>(weights, values, count, d, out + d);
  if (d == n) return;
  float rest[kLanes] = {};
  memcpy(rest, out + d, static_cast<size_t>(n - d) * sizeof(float));
  add_values<1>(weights, values, count, d, rest);
  memcpy(out + d, rest, static_cast<size_t>(n - d) * sizeof(float));
}

template <int kType>
void values_of(const float* weights, int64_t weights_stride, int64_t query_count,
               const void* values, int64_t value_stride, int64_t value_count, int64_t head_dim,
               float* out, int64_t out_stride) {
  alignas(64) float wide[kValueRun][kHeadStretch];
  for (int64_t from = 0; from < head_dim; from += kHeadStretch) {
    const int64_t n = head_dim - from < kHeadStretch ? head_dim - from : kHeadStretch;
    for (int64_t first = 0; first < value_count; first += kValueRun) {
      const int64_t count = value_count - first < kValueRun ? value_count - first : kValueRun;
      for (int64_t i = 0; i < count; ++i)
        widen_head<kType>(values, (first + i) * value_stride + from, n, wide[i]);
      for (int64_t a = 0; a < query_count; ++a)
        add_run(weights + a * weights_stride + first, wide, count, n, out + a * out_stride + from);
    }
  }
}

void attention_values(const float* weights, int64_t weights_stride, int64_t query_count,
                      const void* values, int cache_type, int64_t value_stride, int64_t value_count,
                      int64_t head_dim, float* out, int64_t out_stride) {
  const auto run = cache_type == kF32   ? values_of<kF32>
                   : cache_type == kF16 ? values_of<kF16>
                                        : values_of<kBF16>;
  run(weights, weights_stride, query_count, values, value_stride, value_count, head_dim, out,
      out_stride);
}

float exponentials(float* x, int64_t n, float largest) {
  Floats total = zero();
  const Floats shift = broadcast(largest);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats e = exp_of(sub(load(x + i), shift));
    store(x + i, e);
    total = add(total, e);
  }
  if (i < n) {
    float rest[kLanes];
    for (int j = 0; j < kLanes; ++j) rest[j] = i + j < n ? x[i + j] - largest : -200.0f;
    const Floats e = exp_of(load(rest));  // exactly 0 beyond the end
    store(rest, e);
    memcpy(x + i, rest, static_cast<size_t>(n - i) * sizeof(float));
    total = add(total, e);
  }
  return reduce_add(total);
}
