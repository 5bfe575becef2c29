// Attention tiles over the vector vocabulary: scores of keys, exponentials, weighted values.
//
// The caches hold F32, F16 or BF16. A key (or value) is widened to float32 once and used for all
// query heads that share its head. A score is one dot product whose order head_dim fixes; values
// are added key by key. So neither the tile's size nor the number of queries changes any bit.

template <int kType>
const float* widen_head(const void* base, int64_t at, int64_t head_dim, float* buffer) {
  const uint8_t* bytes = static_cast<const uint8_t*>(base) + at * (kType == kF32 ? 4 : 2);
  return decode_stretch<kType>(bytes, 0, head_dim, kType, buffer);
}

template <int kType>
void scores_of(const float* queries, int64_t query_stride, int64_t query_count, const void* keys,
               int64_t key_stride, int64_t key_count, int64_t head_dim, float* scores,
               int64_t scores_stride) {
  float buffer[kStretch];
  for (int64_t i = 0; i < key_count; ++i)
    for (int64_t from = 0; from < head_dim; from += kStretch) {
      const int64_t n = head_dim - from < kStretch ? head_dim - from : kStretch;
      const float* key = widen_head<kType>(keys, i * key_stride + from, n, buffer);
      for (int64_t a = 0; a < query_count; ++a) {
        Floats sums[kChains];
        for (int j = 0; j < kChains; ++j) sums[j] = zero();
        dot_stretch(key, queries + a * query_stride + from, n, sums);
        float* score = scores + a * scores_stride + i;
        *score = from == 0 ? add_up(sums) : *score + add_up(sums);
      }
    }
}

void attention_scores(const float* queries, int64_t query_stride, int64_t query_count,
                      const void* keys, int cache_type, int64_t key_stride, int64_t key_count,
                      int64_t head_dim, float* scores, int64_t scores_stride) {
  const auto run = cache_type == kF32 ? scores_of<kF32>
                   : cache_type == kF16 ? scores_of<kF16>
                                        : scores_of<kBF16>;
  run(queries, query_stride, query_count, keys, key_stride, key_count, head_dim, scores,
      scores_stride);
}

void add_scaled(const float* value, float weight, int64_t n, float* out) {
  const Floats factor = broadcast(weight);
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes)
    store(out + d, fma(factor, load(value + d), load(out + d)));
  for (; d < n; ++d) out[d] = fma_scalar(weight, value[d], out[d]);
}

template <int kType>
void values_of(const float* weights, int64_t weights_stride, int64_t query_count,
               const void* values, int64_t value_stride, int64_t value_count, int64_t head_dim,
               float* out, int64_t out_stride) {
  float buffer[kStretch];
  for (int64_t i = 0; i < value_count; ++i)
    for (int64_t from = 0; from < head_dim; from += kStretch) {
      const int64_t n = head_dim - from < kStretch ? head_dim - from : kStretch;
      const float* value = widen_head<kType>(values, i * value_stride + from, n, buffer);
      for (int64_t a = 0; a < query_count; ++a)
        add_scaled(value, weights[a * weights_stride + i], n, out + a * out_stride + from);
    }
}

void attention_values(const float* weights, int64_t weights_stride, int64_t query_count,
                      const void* values, int cache_type, int64_t value_stride,
                      int64_t value_count, int64_t head_dim, float* out, int64_t out_stride) {
  const auto run = cache_type == kF32 ? values_of<kF32>
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
