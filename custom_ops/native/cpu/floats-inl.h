// Float32 algorithms over a vector vocabulary, compiled once per instruction set: products of
// decoded weights, norms and SiLU.
//
// The including file defines, in the same unnamed namespace: `kLanes`, `Floats`, and the functions
// zero, broadcast, load, store, add, sub, mul, div, fma (a * b + c), max, min, reduce_add (a fixed
// tree), widen_half, widen_bfloat16 (kLanes values of 2 bytes each), exp_of. A dot product runs in
// one chain per lane and then across lanes, so its bits depend on its length alone.

constexpr int kStretch = 512;      // values decoded at a time
constexpr int kBlockRows = 4;      // of weights and ...
constexpr int kBlockColumns = 4;   // ... columns whose sums rest in registers together
constexpr int kFloatColumns = 16;  // columns that share decoded stretches
static_assert(kStretch % kLanes == 0 && kStretch % kSuperBlock == 0, "whole vectors and blocks");

// Asks for a cache line, or for several bytes' in the order of their addresses, in L2.
void fetch(const uint8_t* p) { __builtin_prefetch(p, 0, 2); }
void fetch_bytes(const uint8_t* p, size_t bytes) {
  for (const uint8_t* const end = p + bytes; p < end; p += 64) fetch(p);
}

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

// The weights of one stretch as floats: in place where they are, else decoded into `buffer`.
template <int kType>
const float* decode_stretch(const uint8_t* row, int64_t at, int64_t n, int type, float* buffer) {
  if (kType == kF32) return reinterpret_cast<const float*>(row) + at;
  if (kType == kF16 || kType == kBF16) {
    const uint8_t* p = row + 2 * at;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(buffer + i, load_elements<kType>(p, i));
    dequantize_row(kType, p + 2 * i, buffer + i, n - i);
    return buffer;
  }
  const QuantFormat& format = *find_quant(type);
  dequantize_row(type, row + at / format.block * format.bytes, buffer, n);
  return buffer;
}

// sums[r * kColumns + c] += weight(r, i) * x[c], lane by lane, over the whole vectors of n values.
// Returns how many values those are.
template <int kHeight, int kColumns, class Weight>
int64_t add_products(const Weight& weight, const float* const* x, int64_t n, Floats* sums) {
  Floats sum[kHeight * kColumns];
  for (int j = 0; j < kHeight * kColumns; ++j) sum[j] = sums[j];
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Floats value[kColumns];
    for (int c = 0; c < kColumns; ++c) value[c] = load(x[c] + i);
    for (int r = 0; r < kHeight; ++r) {
      const Floats w = weight(r, i);
      for (int c = 0; c < kColumns; ++c)
        sum[r * kColumns + c] = fma(w, value[c], sum[r * kColumns + c]);
    }
  }
  for (int j = 0; j < kHeight * kColumns; ++j) sums[j] = sum[j];
  return i;
}

// The same of weights in memory, over all n values: a ragged end is filled up with zeros.
template <int kHeight, int kColumns>
void multiply_block(const float* const* w, const float* const* x, int64_t n, Floats* sums) {
  const int64_t i = add_products<kHeight, kColumns>(
      [&](int r, int64_t at) { return load(w[r] + at); }, x, n, sums);
  if (i == n) return;
  float rest[kHeight + kColumns][kLanes] = {};
  const float* ends[kColumns];
  for (int j = 0; j < kHeight + kColumns; ++j)
    memcpy(rest[j], (j < kHeight ? w[j] : x[j - kHeight]) + i,
           static_cast<size_t>(n - i) * sizeof(float));
  for (int c = 0; c < kColumns; ++c) ends[c] = rest[kHeight + c];
  add_products<kHeight, kColumns>([&](int r, int64_t) { return load(rest[r]); }, ends, kLanes,
                                  sums);
}

// kHeight rows against up to kFloatColumns columns.
template <int kType, int kHeight>
void multiply_rows(int type, const uint8_t* weights, size_t row_bytes, int64_t k,
                   const float* const* x, int64_t columns, float* out, int64_t out_stride) {
  float buffer[kHeight][kStretch];
  Floats sums[kFloatColumns * kHeight];
  for (int64_t i = 0; i < columns * kHeight; ++i) sums[i] = zero();
  for (int64_t at = 0; at < k; at += kStretch) {
    const int64_t n = k - at < kStretch ? k - at : kStretch;
    const float* w[kHeight];
    for (int r = 0; r < kHeight; ++r)
      w[r] = decode_stretch<kType>(weights + static_cast<size_t>(r) * row_bytes, at, n, type,
                                   buffer[r]);
    const float* from[kFloatColumns];
    for (int64_t c = 0; c < columns; ++c) from[c] = x[c] + at;
    int64_t c = 0;
    for (; c + kBlockColumns <= columns; c += kBlockColumns)
      multiply_block<kHeight, kBlockColumns>(w, from + c, n, sums + c * kHeight);
    for (; c < columns; ++c) multiply_block<kHeight, 1>(w, from + c, n, sums + c * kHeight);
  }
  const int64_t blocked = columns / kBlockColumns * kBlockColumns;
  for (int64_t c = 0; c < columns; ++c)
    for (int r = 0; r < kHeight; ++r) {
      const int64_t block = c / kBlockColumns * kBlockColumns;
      const Floats sum = c < blocked ? sums[block * kHeight + r * kBlockColumns + c - block]
                                     : sums[c * kHeight + r];
      out[c * out_stride + r] = reduce_add(sum);
    }
}

// kHeight rows of 2-byte floats against few columns: widened in registers, for each use again,
// which takes less than a buffer does. The rows behind them come closer meanwhile, as rows may be
// pages, beyond which the hardware does not look ahead.
template <int kType, int kHeight, int kColumns>
void multiply_halves(int, const uint8_t* weights, size_t row_bytes, int64_t k,
                     const float* const* x, int64_t, float* out, int64_t out_stride) {
  Floats sums[kHeight * kColumns];
  const uint8_t* row[kHeight];
  for (int i = 0; i < kHeight * kColumns; ++i) sums[i] = zero();
  for (int r = 0; r < kHeight; ++r) row[r] = weights + static_cast<size_t>(r) * row_bytes;
  const auto weight = [&](int r, int64_t at) {
    if (at % 32 == 0) fetch(row[r] + kHeight * row_bytes + 2 * at);
    return load_elements<kType>(row[r], at);
  };
  const int64_t i = add_products<kHeight, kColumns>(weight, x, k, sums);
  if (i < k) {
    float rest[kHeight][kLanes];
    const float *w[kHeight], *from[kColumns];
    for (int r = 0; r < kHeight; ++r) {
      dequantize_row(kType, row[r] + 2 * i, rest[r], k - i);
      w[r] = rest[r];
    }
    for (int c = 0; c < kColumns; ++c) from[c] = x[c] + i;
    multiply_block<kHeight, kColumns>(w, from, k - i, sums);
  }
  for (int c = 0; c < kColumns; ++c)
    for (int r = 0; r < kHeight; ++r) out[c * out_stride + r] = reduce_add(sums[r * kColumns + c]);
}

// The way for so many columns: multiply_halves for 1 to kBlockColumns.
template <int kType, int kHeight>
auto rows_product(int64_t columns) {
  if constexpr (kType == kF16 || kType == kBF16) {
    if (columns == 1) return multiply_halves<kType, kHeight, 1>;
    if (columns == 2) return multiply_halves<kType, kHeight, 2>;
    if (columns == 3) return multiply_halves<kType, kHeight, 3>;
    if (columns == 4) return multiply_halves<kType, kHeight, 4>;
  }
  return multiply_rows<kType, kHeight>;
}

template <int kType>
void multiply_floats(int type, const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                     const float* const* x, int64_t columns, float* out, int64_t out_stride) {
  for (int64_t first = 0; first < columns; first += kFloatColumns) {
    const int64_t count = columns - first < kFloatColumns ? columns - first : kFloatColumns;
    for (int64_t r = 0; r < rows;) {
      const bool block = r + kBlockRows <= rows;
      const auto run =
          block ? rows_product<kType, kBlockRows>(count) : rows_product<kType, 1>(count);
      run(type, weights + static_cast<size_t>(r) * row_bytes, row_bytes, k, x + first, count,
          out + first * out_stride + r, out_stride);
      r += block ? kBlockRows : 1;
    }
  }
}

// kernels.h's MatMulFloat for one type.
template <int kType>
void matmul_float(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                  const float* const* x, int64_t columns, float* out, int64_t out_stride) {
  constexpr int kPlain = kType == kF32 || kType == kF16 || kType == kBF16 ? kType : -1;
  multiply_floats<kPlain>(kType, weights, row_bytes, rows, k, x, columns, out, out_stride);
}

void rms_norm(const float* x, const float* weight, int64_t n, float epsilon, float* y) {
  Floats sum = zero();
  multiply_block<1, 1>(&x, &x, n, &sum);
  const float inverse = 1.0f / __builtin_sqrtf(reduce_add(sum) / static_cast<float>(n) + epsilon);
  const Floats factor = broadcast(inverse);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
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
