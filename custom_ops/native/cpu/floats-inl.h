// Float32 algorithms over a vector vocabulary, compiled once per instruction set: elements of 2 or
// 4 bytes, norms and SiLU.
//
// The including file defines, in the same unnamed namespace: `kLanes`, `kRegisters` of vectors,
// `kWidens`, `Floats`, and the functions zero, broadcast, load, store, add, sub, mul, div, fma
// (a * b + c), max, min, reduce_add (a fixed tree), reduce_add_four (that of four vectors, to four
// floats), widen_half, widen_bfloat16 (kLanes values of 2 bytes each), exp_of.

// The bits of the largest magnitude of n floats; those of what is not a number are above all.
uint32_t largest_bits(const float* x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = bits_of_float(x[i]) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

template <int kType>
constexpr int64_t element_bytes() {
  return kType == kF32 ? 4 : 2;
}

// kLanes elements of a row of floats, of 4 bytes or 2, from element i on.
template <int kType>
Floats load_elements(const uint8_t* row, int64_t i) {
  const uint8_t* const p = row + i * element_bytes<kType>();
  if (kType == kF16) return widen_half(p);
  if (kType == kBF16) return widen_bfloat16(p);
  return load(reinterpret_cast<const float*>(p));
}

void rms_norm(const float* x, const float* weight, int64_t n, float epsilon, float* y) {
  Floats sum = zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = fma(load(x + i), load(x + i), sum);
  if (i < n) {
    float rest[kLanes] = {};
    memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(float));
    sum = fma(load(rest), load(rest), sum);
  }
  const float inverse = 1.0f / __builtin_sqrtf(reduce_add(sum) / static_cast<float>(n) + epsilon);
  const Floats factor = broadcast(inverse);
  for (i = 0; i + kLanes <= n; i += kLanes)
    store(y + i, mul(mul(load(x + i), factor), load(weight + i)));
  for (; i < n; ++i) y[i] = x[i] * inverse * weight[i];
}

// x / (1 + exp(-x)), without a branch: far below zero it is x / inf, far above x / 1.
Floats silu(Floats x) { return div(x, add(broadcast(1.0f), exp_of(sub(zero(), x)))); }

void silu_multiply(float* gate, const float* up, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(gate + i, mul(silu(load(gate + i)), load(up + i)));
  if (i < n) {
    float rest[2][kLanes] = {};
    memcpy(rest[0], gate + i, static_cast<size_t>(n - i) * sizeof(float));
    memcpy(rest[1], up + i, static_cast<size_t>(n - i) * sizeof(float));
    store(rest[0], mul(silu(load(rest[0])), load(rest[1])));
    memcpy(gate + i, rest[0], static_cast<size_t>(n - i) * sizeof(float));
  }
}

// kVectors vectors of a weighted sum: load_row(i, v) is the v-th of row i.
template <int kVectors, class LoadRow>
void add_weighted(const float* weights, int64_t count, const LoadRow& load_row, float* out) {
  Floats sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = mul(broadcast(weights[0]), load_row(0, v));
  for (int64_t i = 1; i < count; ++i)
    for (int v = 0; v < kVectors; ++v) sum[v] = fma(broadcast(weights[i]), load_row(i, v), sum[v]);
  for (int v = 0; v < kVectors; ++v) store(out + v * kLanes, sum[v]);
}

void weighted_sum(const float* const* rows, const float* weights, int64_t count, int64_t n,
                  float* out) {
  constexpr int kAtOnce = 4;
  int64_t at = 0;
  const auto whole = [&](int64_t i, int v) { return load(rows[i] + at + v * kLanes); };
  for (; at + kAtOnce * kLanes <= n; at += kAtOnce * kLanes)
    add_weighted<kAtOnce>(weights, count, whole, out + at);
  for (; at + kLanes <= n; at += kLanes) add_weighted<1>(weights, count, whole, out + at);
  if (at == n) return;
  const auto bytes = static_cast<size_t>(n - at) * sizeof(float);
  float sum[kLanes];
  const auto rest = [&](int64_t i, int) {
    float lanes[kLanes] = {};
    memcpy(lanes, rows[i] + at, bytes);
    return load(lanes);
  };
  add_weighted<1>(weights, count, rest, sum);
  memcpy(out + at, sum, bytes);
}
