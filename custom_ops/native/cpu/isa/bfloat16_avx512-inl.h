// Products of bfloat16 in pairs, for CPUs with AVX-512's BF16: twice as many per instruction as in
// float32. Activations are rounded to bfloat16, products are exact, sums are float32.
//
// In assembler, as the compiler has these two instructions only where everything may use them; the
// caller asks the CPU.

constexpr int kPairs = 2 * kLanes;  // values of a vector

// How BF16 weights meet activations in bfloat16.
struct PairProducts {
  using Element = uint16_t;
  static constexpr int kStep = kPairs;
  static constexpr int64_t kBytes = 2;
  static Ints weights(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static Ints activations(const uint16_t* p) { return _mm512_loadu_si512(p); }
  static Floats add(Ints w, Ints x, Floats sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
  }
};

// k activations to bfloat16, to the nearest, ties to even.
void round_to_bfloat16(const float* x, int64_t k, uint16_t* y) {
  const auto round = [](const float* from) {
    Ints both;
    asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(load(from)), "v"(load(from + kLanes)));
    return both;
  };
  int64_t i = 0;
  for (; i + kPairs <= k; i += kPairs) _mm512_storeu_si512(y + i, round(x + i));
  if (i == k) return;
  float rest[kPairs] = {};
  uint16_t rounded[kPairs];
  memcpy(rest, x + i, static_cast<size_t>(k - i) * sizeof(float));
  _mm512_storeu_si512(rounded, round(rest));
  memcpy(y + i, rounded, static_cast<size_t>(k - i) * sizeof(uint16_t));
}

// kernels.h's MatMulFloat of BF16. Rows so long that the activations of few columns do not fit are
// multiplied in float32.
void matmul_pairs(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                  const float* const* x, int64_t columns, float* out, int64_t out_stride,
                  const uint8_t* next) {
  // A cache line further than they need: columns 4 KiB apart would share a few lines of L1.
  const int64_t stride = (k + kPairs - 1) / kPairs * kPairs + kPairs;
  if (stride > kHeld / kBlockColumns)
    return matmul_float<kBF16>(weights, row_bytes, rows, k, x, columns, out, out_stride, next);
  alignas(64) uint16_t rounded[kHeld];
  for_each_batch(columns, stride, next, [&](int64_t first, int64_t end, const uint8_t* then) {
    const uint16_t* y[kMostColumns];
    for (int64_t c = first; c < end; ++c) {
      uint16_t* const row = rounded + (c - first) * stride;
      round_to_bfloat16(x[c], k, row);
      y[c - first] = row;
    }
    multiply_floats<PairProducts>(weights, row_bytes, rows, k, y, end - first,
                                  out + first * out_stride, out_stride, then);
  });
}
