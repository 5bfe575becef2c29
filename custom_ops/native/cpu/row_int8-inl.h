// The int8 product of any quantized type, one row at a time in plain C++: the generic kernels, and
// the definition of the order in which every other int8 kernel sums.
//
// A row's sum is that of its runs of 256 values (the last may be shorter), added up one by one. A
// run's is a chain over its groups of 32, in order: the exact int32 dot product of codes and
// activations, times the weight scale, then fused times the activation scale onto the sum; then,
// fused too, minus the minimum times the sum of the activations. Nothing else is rounded. Of `even`
// products (kernels.h) whose scales are integers it is a chain over blocks of 128: the exact int32
// sum of products times the scales' integers, times d, less, fused, dmin times the exact sum of
// activations times the minimums' integers; then fused times the activation scale onto the sum.

int32_t dot16(const int8_t* a, const int8_t* b) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += a[i] * b[i];
  return sum;
}

// One group of 32 of one row against one column, added to the row's sum: see tile-inl.h, whose
// order and roundings these are.
float add_group(const Codes& codes, const int8_t* q, const float* scale, const float* min,
                const Int8Group& x, float sum) {
  const int32_t low = dot16(q, x.q), high = dot16(q + 16, x.q + 16);
  const float part = codes.halves ? __builtin_fmaf(static_cast<float>(low), scale[0],
                                                   static_cast<float>(high) * scale[1])
                                  : static_cast<float>(low + high) * scale[0];
  sum = __builtin_fmaf(part, x.scale, sum);
  if (!codes.mins) return sum;
  sum = __builtin_fmaf(-min[0], x.sum[0], sum);
  return codes.halves ? __builtin_fmaf(-min[1], x.sum[1], sum) : sum;
}

// kScaleBlock values of a row whose scales are integers: factors and offsets of their groups.
float add_integers(const IntegerScales& scales, int first, const int8_t* q, const Int8Group* x,
                   float sum) {
  int32_t product = 0, taken = 0;
  for (int g = 0; g < kScaleBlock / kGroup; ++g) {
    const int8_t* const codes = q + g * kGroup;
    product += scales.factor[first + g] * (dot16(codes, x[g].q) + dot16(codes + 16, x[g].q + 16));
    taken += scales.offset[first + g] * x[g % 2].pair[g / 2];
  }
  const float part = __builtin_fmaf(-scales.dmin, static_cast<float>(taken),
                                    scales.d * static_cast<float>(product));
  return __builtin_fmaf(part, x->scale, sum);
}

// The values of one block of a row, onto the sums of columns; kIntegers as in Int8Form.
template <bool kIntegers>
struct RowBlock {
  int8_t q[kSuperBlock];
  float scale[kSuperBlock / 16], min[kSuperBlock / 16];
  IntegerScales integers;

  void decode(const Codes& codes, const uint8_t* block) {
    codes.decode(block, q, scale, min);
    if (kIntegers) codes.decode_integers(block, &integers);
  }
  float add_to(float sum, const Codes& codes, int64_t values, const Int8Group* x) const {
    constexpr int64_t kStep = kIntegers ? kScaleBlock : kGroup;
    for (int64_t i = 0; i < values; i += kStep, x += kStep / kGroup)
      sum = kIntegers ? add_integers(integers, static_cast<int>(i / kGroup), q + i, x, sum)
                      : add_group(codes, q + i, scale + i / 16, min + i / 16, *x, sum);
    return sum;
  }
};

template <int kType, bool kIntegers>
void matmul_int8(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                 const Int8Row* x, int64_t columns, float* out, int64_t out_stride,
                 const uint8_t*) {
  const Codes& codes = *find_codes(kType);
  const QuantFormat& format = *find_quant(kType);
  constexpr int64_t kColumns = 32;  // that share one decoded block
  RowBlock<kIntegers> decoded = {};
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t first = 0; first < columns; first += kColumns) {
      const int64_t count = columns - first < kColumns ? columns - first : kColumns;
      float sums[kColumns] = {}, run[kColumns] = {};
      const uint8_t* block = weights + static_cast<size_t>(r) * row_bytes;
      for (int64_t at = 0; at < k; block += format.bytes) {
        decoded.decode(codes, block);
        for (int64_t c = 0; c < count; ++c)
          run[c] = decoded.add_to(run[c], codes, format.block, x[first + c] + at / kGroup);
        at += format.block;
        if (at % kSuperBlock != 0 && at < k) continue;
        for (int64_t c = 0; c < count; ++c) {
          sums[c] += run[c];
          run[c] = 0;
        }
      }
      for (int64_t c = 0; c < count; ++c) out[(first + c) * out_stride + r] = sums[c];
    }
}

template <int kType, int kBlock, bool kEven>
constexpr Int8Product int8_product() {
  constexpr bool kIntegers = kEven && has_integers(kType);
  const Int8Form form = {0, has_halves(kType), has_mins(kType), kIntegers};
  if constexpr (kBlock == 1)
    return {form, nullptr};
  else
    return {form, matmul_int8<kType, kIntegers>};
}
