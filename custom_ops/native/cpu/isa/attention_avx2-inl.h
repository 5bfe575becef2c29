// Pairs of 16-bit integers in the lanes of AVX2: see attention_units-inl.h. Registers of floats
// hold their bits, and those of their sums.

template <>
struct Units<2> : PairUnits<Units<2>> {
  static Floats add_product(Floats a, Floats b, Floats sum) {
    const Ints products = _mm256_madd_epi16(_mm256_castps_si256(a), _mm256_castps_si256(b));
    return _mm256_castsi256_ps(settled(_mm256_add_epi32(_mm256_castps_si256(sum), products)));
  }
  static Floats floats(Floats sum) { return to_floats(_mm256_castps_si256(sum)); }

  static Ints integers(Floats x, Floats inverse) { return round_to_int(mul(x, inverse)); }
  // 2 kLanes elements that follow each other.
  static Floats pack(Floats first, Floats second, float inverse) {
    const Floats factor = broadcast(inverse);
    const Ints mixed =
        _mm256_packs_epi32(integers(first, factor), integers(second, factor));  // by 128 bits
    return _mm256_castsi256_ps(_mm256_permute4x64_epi64(mixed, 0xd8));
  }
  // Lane i holds (even[i], odd[i]).
  static Floats pair(Ints even, Ints odd) {
    return _mm256_castsi256_ps(_mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa));
  }

  // A weight times the scale of its value; a weight of zero stays zero, whatever the scale is.
  static Floats weigh(Floats weight, float scale) {
    const Floats some = _mm256_cmp_ps(weight, zero(), _CMP_GT_OQ);
    return _mm256_and_ps(some, mul(weight, broadcast(scale)));
  }
  // What weights up to `largest` become integers with; zero where they are too small for that.
  static Floats inverse_range(Floats largest) {
    const Floats enough = _mm256_cmp_ps(largest, broadcast(0x1p-100f), _CMP_GE_OQ);
    return _mm256_and_ps(enough, div(broadcast(kLargest), largest));
  }

  // The largest magnitudes of kLanes rows of n elements of 2 bytes, n a multiple of kLanes: their
  // bits without the sign are in the order of the magnitudes, and those of what is not a number are
  // above all.
  template <int kType>
  static Floats largest_of_rows(const uint8_t* const* rows, int64_t n) {
    float largest[kLanes];
    for (int i = 0; i < kLanes; ++i) largest[i] = largest_of_row<kType>(rows[i], n);
    return load(largest);
  }
  template <int kType>
  static float largest_of_row(const uint8_t* row, int64_t n) {
    const auto load_half = [&](int64_t i) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * i));
    };
    const Ints magnitude = _mm256_set1_epi16(0x7fff);
    Ints largest = _mm256_setzero_si256();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const Ints bits = _mm256_loadu_si256(reinterpret_cast<const Ints*>(row + 2 * i));
      largest = _mm256_max_epu16(largest, _mm256_and_si256(bits, magnitude));
    }
    __m128i half =
        _mm_max_epu16(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    if (i < n)
      half = _mm_max_epu16(half, _mm_and_si128(load_half(i), _mm256_castsi256_si128(magnitude)));
    const __m128i least = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1)));
    const auto bits = static_cast<uint16_t>(~_mm_extract_epi16(least, 0));
    return kType == kF16 ? _cvtsh_ss(bits) : float_from_bits(uint32_t{bits} << 16);
  }

  // The two of RowScales for the row of each lane.
  static void fixed_points(Floats largest, float limit, float* scale, float* inverse) {
    const Floats some = _mm256_cmp_ps(largest, broadcast(0x1p-100f), _CMP_NLT_UQ);
    const Floats finite = _mm256_cmp_ps(largest, broadcast(0x1.fffffep127f), _CMP_LE_OQ);
    const Floats nothing = broadcast(__builtin_nanf("")), bound = broadcast(limit);
    store(scale, _mm256_and_ps(some, _mm256_blendv_ps(nothing, div(largest, bound), finite)));
    store(inverse, _mm256_and_ps(_mm256_and_ps(some, finite), div(bound, largest)));
  }
};
