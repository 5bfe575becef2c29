// Float32 algorithms over a vector vocabulary, compiled once per instruction set.
//
// The including file defines, in the same unnamed namespace: `kLanes`, `Floats`, and the functions
// zero, broadcast, load, store, add, sub, mul, fma (a * b + c), max, reduce_add (fixed tree),
// widen_half, widen_bfloat16 (kLanes values of 2 bytes each), exp_of. Sums run in kChains chains of
// lanes, chain by position, so that bits depend on n alone.

constexpr int kChains = 4;
constexpr int kStride = kChains * kLanes;
constexpr int kStretch = 512;       // values decoded at a time
constexpr int kFloatColumns = 16;   // columns that share one decoded stretch
static_assert(kStretch % kStride == 0 && kStretch % kSuperBlock == 0, "whole blocks and chains");

// The weights of one stretch as floats: in place where they are, else decoded into `buffer`.
template <int kType>
const float* decode_stretch(const uint8_t* row, int64_t at, int64_t n, int type, float* buffer) {
  if (kType == kF32) return reinterpret_cast<const float*>(row) + at;
  if (kType == kF16 || kType == kBF16) {
    const uint8_t* p = row + 2 * at;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      store(buffer + i, kType == kF16 ? widen_half(p + 2 * i) : widen_bfloat16(p + 2 * i));
    dequantize_row(kType, p + 2 * i, buffer + i, n - i);
    return buffer;
  }
  const QuantFormat& format = *find_quant(type);
  dequantize_row(type, row + at / format.block * format.bytes, buffer, n);
  return buffer;
}

// sums[chain] += w * x over n values; a ragged end is filled with zeros.
void dot_stretch(const float* w, const float* x, int64_t n, Floats* sums) {
  Floats chain[kChains];
  for (int j = 0; j < kChains; ++j) chain[j] = sums[j];
  int64_t i = 0;
  for (; i + kStride <= n; i += kStride)
    for (int j = 0; j < kChains; ++j)
      chain[j] = fma(load(w + i + j * kLanes), load(x + i + j * kLanes), chain[j]);
  if (i < n) {
    float rest[2][kStride] = {};
    memcpy(rest[0], w + i, static_cast<size_t>(n - i) * sizeof(float));
    memcpy(rest[1], x + i, static_cast<size_t>(n - i) * sizeof(float));
    for (int j = 0; j < kChains; ++j)
      chain[j] = fma(load(rest[0] + j * kLanes), load(rest[1] + j * kLanes), chain[j]);
  }
  for (int j = 0; j < kChains; ++j) sums[j] = chain[j];
}

float add_up(const Floats* sums) {
  return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

template <int kType>
void multiply_floats(int type, const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                     const float* const* x, int64_t columns, float* out, int64_t out_stride) {
  float buffer[kStretch];
  Floats sums[kFloatColumns][kChains];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t first = 0; first < columns; first += kFloatColumns) {
      const int64_t count = columns - first < kFloatColumns ? columns - first : kFloatColumns;
      for (int64_t c = 0; c < count; ++c)
        for (int j = 0; j < kChains; ++j) sums[c][j] = zero();
      for (int64_t at = 0; at < k; at += kStretch) {
        const int64_t n = k - at < kStretch ? k - at : kStretch;
        const float* w = decode_stretch<kType>(weights + r * row_bytes, at, n, type, buffer);
        for (int64_t c = 0; c < count; ++c) dot_stretch(w, x[first + c] + at, n, sums[c]);
      }
      for (int64_t c = 0; c < count; ++c) out[(first + c) * out_stride + r] = add_up(sums[c]);
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
  Floats sums[kChains];
  for (int j = 0; j < kChains; ++j) sums[j] = zero();
  dot_stretch(x, x, n, sums);
  const float inverse = 1.0f / __builtin_sqrtf(add_up(sums) / static_cast<float>(n) + epsilon);
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
  for (; i + kLanes <= n; i += kLanes)
    store(gate + i, mul(silu(load(gate + i)), load(up + i)));
  if (i < n) {
    float rest[2][kLanes] = {};
    memcpy(rest[0], gate + i, static_cast<size_t>(n - i) * sizeof(float));
    memcpy(rest[1], up + i, static_cast<size_t>(n - i) * sizeof(float));
    store(rest[0], mul(silu(load(rest[0])), load(rest[1])));
    memcpy(gate + i, rest[0], static_cast<size_t>(n - i) * sizeof(float));
  }
}
