// Activations to int8 in integer and correctly rounded operations only, so that every instruction
// set writes the same bits.
//
// Where a scale belongs to some values, it is max|x| / 127 and q = x * (127 / max|x|) to the
// nearest, ties to even. Values whose largest magnitude is below kSmallest count as zero (the
// reciprocal would overflow). With an infinity or a NaN among them they get scale NaN, so that the
// products say so, and codes 0.

constexpr uint32_t kSmallestBits = 0x0d800000;  // 2^-100
constexpr uint32_t kInfinityBits = 0x7f800000;
constexpr uint32_t kNaNBits = 0x7fc00000;

// What the largest magnitude, as its bits, makes of the values it belongs to: scale and factor.
struct GroupScale {
  float scale, inverse;
};

GroupScale group_scale(uint32_t largest_bits) {
  if (largest_bits < kSmallestBits) return {0.0f, 0.0f};
  if (largest_bits >= kInfinityBits) return {float_from_bits(kNaNBits), 0.0f};
  const float largest = float_from_bits(largest_bits);
  return {largest / 127.0f, 127.0f / largest};
}

// Codes of up to kGroup values in plain C++, filled up with zeros; sums of each half's.
void quantize_codes(const float* x, int64_t n, float inverse, int8_t* q, int32_t* sums) {
  sums[0] = sums[1] = 0;
  for (int64_t i = 0; i < kGroup; ++i) {
    // 1.5 * 2^23: the sum's low bits are the integer, rounded to nearest even.
    const float shifted = inverse > 0.0f && i < n ? x[i] * inverse + 12582912.0f : 12582912.0f;
    q[i] = static_cast<int8_t>(static_cast<int>(bits_of_float(shifted)) - 0x4b400000);
    sums[i / 16] += q[i];
  }
}

constexpr int kGroupVectors = static_cast<int>(kGroup) / kLanes;

// The same of a whole group by vectors: round_to_int, store_group (kGroupVectors vectors of ints
// as bytes), add_ints, reduce_add_ints.
void quantize_whole(const float* x, float inverse, int8_t* q, int32_t* sums) {
  Ints code[kGroupVectors];
  for (int i = 0; i < kGroupVectors; ++i)
    code[i] = round_to_int(mul(load(x + i * kLanes), broadcast(inverse)));
  store_group(q, code);
  for (int half = 0; half < 2; ++half) {
    Ints sum = code[half * kGroupVectors / 2];
    for (int i = 1; i < kGroupVectors / 2; ++i)
      sum = add_ints(sum, code[half * kGroupVectors / 2 + i]);
    sums[half] = reduce_add_ints(sum);
  }
}

// The largest magnitude of whole groups, as its bits: magnitudes (the bits of |x|), max_ints,
// reduce_max.
uint32_t largest_of_groups(const float* x, int64_t n) {
  Ints largest = magnitudes(load(x));
  for (int64_t i = kLanes; i < n; i += kLanes) largest = max_ints(largest, magnitudes(load(x + i)));
  return reduce_max(largest);
}

// What products take besides codes and scale: see Int8Group.
void store_sums(const Int8Form& form, const int32_t* sums, Int8Group* group) {
  const int32_t whole = sums[0] + sums[1];
  const int32_t part[2] = {form.halves ? sums[0] : whole, form.halves ? sums[1] : 0};
  for (int h = 0; h < 2; ++h)
    if (form.mins)
      group->sum[h] = group->scale * static_cast<float>(part[h]);
    else
      group->start[h] = -form.bias * part[h];
}

// Up to kScaleBlock values with one scale, as `groups` groups.
void quantize_values(const float* x, int64_t n, int64_t groups, const Int8Form& form,
                     Int8Group* out) {
  const bool whole = n == groups * kGroup;
  const GroupScale scale = group_scale(whole ? largest_of_groups(x, n) : largest_bits(x, n));
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t at = g * kGroup;
    int32_t sums[2];
    if (whole && scale.inverse > 0.0f)
      quantize_whole(x + at, scale.inverse, out[g].q, sums);
    else
      quantize_codes(x + at, n - at, scale.inverse, out[g].q, sums);
    out[g].scale = scale.scale;
    if (form.integers)
      out[g % 2].pair[g / 2] = static_cast<int16_t>(sums[0] + sums[1]);
    else
      store_sums(form, sums, out + g);
  }
}

// Kernels::quantize.
void quantize(const float* x, int64_t k, const Int8Form& form, Int8Group* out) {
  const int64_t unit = form.integers ? kScaleBlock : kGroup, end = groups_of(k) * kGroup;
  for (int64_t at = 0; at < end; at += unit) {
    const int64_t left = k - at < 0 ? 0 : k - at;
    quantize_values(x + at, left < unit ? left : unit, unit / kGroup, form, out + at / kGroup);
  }
}
