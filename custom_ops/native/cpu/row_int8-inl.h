// The int8 product of any quantized type, one row at a time in plain C++: the generic kernels, and
// the definition of the order in which every other int8 kernel sums.
//
// A row's sum is one chain over its groups of 32, in order: the exact int32 dot product of codes
// and activations, times the weight scale, then fused times the activation scale onto the sum;
// then, fused too, minus the minimum times the sum of the activations. Nothing else is rounded.

int32_t dot16(const int8_t* a, const int8_t* b) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += a[i] * b[i];
  return sum;
}

// One group of 32 of one row against one column, added to the row's sum: see tile-inl.h, whose
// order and roundings these are.
float add_group(const Codes& codes, const int8_t* q, const float* scale, const float* min,
                const Int8Row& x, int64_t group, float sum) {
  const int8_t* xq = x.q + group * kGroup;
  const float xs = x.scale[group];
  const int32_t low = dot16(q, xq), high = dot16(q + 16, xq + 16);
  const float part = codes.halves ? __builtin_fmaf(static_cast<float>(low), scale[0],
                                                   static_cast<float>(high) * scale[1])
                                  : static_cast<float>(low + high) * scale[0];
  sum = __builtin_fmaf(part, xs, sum);
  if (!codes.mins) return sum;
  const int32_t s0 = x.sums[2 * group], s1 = x.sums[2 * group + 1];
  if (!codes.halves) return __builtin_fmaf(-min[0], xs * static_cast<float>(s0 + s1), sum);
  sum = __builtin_fmaf(-min[0], xs * static_cast<float>(s0), sum);
  return __builtin_fmaf(-min[1], xs * static_cast<float>(s1), sum);
}

template <int kType>
void matmul_int8(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                 const Int8Row* x, int64_t columns, float* out, int64_t out_stride,
                 const uint8_t*) {
  const Codes& codes = *find_codes(kType);
  const QuantFormat& format = *find_quant(kType);
  constexpr int64_t kColumns = 32;  // that share one decoded block
  int8_t q[kSuperBlock];
  float scale[kSuperBlock / 16], min[kSuperBlock / 16] = {};
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t first = 0; first < columns; first += kColumns) {
      const int64_t count = columns - first < kColumns ? columns - first : kColumns;
      float sums[kColumns] = {};
      const uint8_t* block = weights + static_cast<size_t>(r) * row_bytes;
      for (int64_t at = 0; at < k; at += format.block, block += format.bytes) {
        codes.decode(block, q, scale, min);
        for (int64_t i = 0; i < format.block; i += kGroup)
          for (int64_t c = 0; c < count; ++c)
            sums[c] = add_group(codes, q + i, scale + i / 16, min + i / 16, x[first + c],
                                (at + i) / kGroup, sums[c]);
      }
      for (int64_t c = 0; c < count; ++c) out[(first + c) * out_stride + r] = sums[c];
    }
}
