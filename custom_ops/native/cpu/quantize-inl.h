// Activations to int8, group by group, in integer and correctly rounded operations only, so that
// every instruction set writes the same bits.
//
// scale = max|x| / 127; q = x * (127 / max|x|) to the nearest, ties to even. A group whose largest
// magnitude is below kSmallest counts as zero (its reciprocal would overflow). A group with an
// infinity or a NaN gets scale NaN, so that the products say so, and codes 0.

constexpr uint32_t kSmallestBits = 0x0d800000;  // 2^-100
constexpr uint32_t kInfinityBits = 0x7f800000;
constexpr uint32_t kNaNBits = 0x7fc00000;

// What a group's largest magnitude, as its bits, makes of the group: its scale and its factor.
struct GroupScale {
  float scale, inverse;
};

GroupScale group_scale(uint32_t largest_bits) {
  if (largest_bits < kSmallestBits) return {0.0f, 0.0f};
  if (largest_bits >= kInfinityBits) return {float_from_bits(kNaNBits), 0.0f};
  const float largest = float_from_bits(largest_bits);
  return {largest / 127.0f, 127.0f / largest};
}

// One group of up to 32 values in plain C++; the rest of the group is zero-filled.
void quantize_group(const float* x, int64_t n, int8_t* q, float* scale, int16_t* sums) {
  const GroupScale group = group_scale(largest_bits(x, n));
  *scale = group.scale;
  sums[0] = sums[1] = 0;
  for (int64_t i = 0; i < kGroup; ++i) {
    // 1.5 * 2^23: the sum's low bits are the integer, rounded to nearest even.
    const float shifted =
        group.inverse > 0.0f && i < n ? x[i] * group.inverse + 12582912.0f : 12582912.0f;
    q[i] = static_cast<int8_t>(static_cast<int>(bits_of_float(shifted)) - 0x4b400000);
    sums[i / 16] = static_cast<int16_t>(sums[i / 16] + q[i]);
  }
}

// Kernels::quantize. The vocabulary: magnitudes (the bits of |x|), max_ints, reduce_max, add_ints,
// reduce_add_ints and store_group (kGroup / kLanes vectors of ints as bytes).
void quantize(const float* x, int64_t k, int8_t* q, float* scale, int16_t* sums) {
  constexpr int kVectors = static_cast<int>(kGroup) / kLanes;
  for (int64_t at = 0; at < k; at += kGroup, q += kGroup, ++scale, sums += 2) {
    if (k - at < kGroup) return quantize_group(x + at, k - at, q, scale, sums);
    Floats value[kVectors];
    for (int i = 0; i < kVectors; ++i) value[i] = load(x + at + i * kLanes);
    Ints largest = magnitudes(value[0]);
    for (int i = 1; i < kVectors; ++i) largest = max_ints(largest, magnitudes(value[i]));
    const GroupScale group = group_scale(reduce_max(largest));
    if (group.inverse == 0.0f) {  // zeros, or something that is not a number
      quantize_group(x + at, kGroup, q, scale, sums);
      continue;
    }
    *scale = group.scale;
    Ints code[kVectors];
    for (int i = 0; i < kVectors; ++i)
      code[i] = round_to_int(mul(value[i], broadcast(group.inverse)));
    store_group(q, code);
    for (int half = 0; half < 2; ++half) {
      Ints sum = code[half * kVectors / 2];
      for (int i = 1; i < kVectors / 2; ++i) sum = add_ints(sum, code[half * kVectors / 2 + i]);
      sums[half] = static_cast<int16_t>(reduce_add_ints(sum));
    }
  }
}
