// Pairs of 16-bit integers in the lanes of AVX-512: see attention_units-inl.h. Registers of floats
// hold their bits, and those of their sums.

template <>
struct Units<2> : PairUnits<Units<2>> {
  static Floats add_product(Floats a, Floats b, Floats sum) {
    return _mm512_castsi512_ps(_mm512_dpwssd_epi32(_mm512_castps_si512(sum), _mm512_castps_si512(a),
                                                   _mm512_castps_si512(b)));
  }
  static HalfFloats add_product(HalfFloats a, HalfFloats b, HalfFloats sum) {
    return _mm256_castsi256_ps(_mm256_dpwssd_epi32(_mm256_castps_si256(sum), _mm256_castps_si256(a),
                                                   _mm256_castps_si256(b)));
  }
  static Floats floats(Floats sum) { return to_floats(_mm512_castps_si512(sum)); }

  using PairUnits<Units<2>>::scaled;
  static HalfFloats scaled(HalfFloats sum, float key, const float* queries) {
    const HalfFloats product = _mm256_cvtepi32_ps(_mm256_castps_si256(sum));
    return _mm256_mul_ps(_mm256_mul_ps(product, _mm256_set1_ps(key)), _mm256_loadu_ps(queries));
  }

  // 2 kLanes elements that follow each other.
  static Floats pack(Floats first, Floats second, float inverse) {
    const Floats factor = broadcast(inverse);
    const Ints mixed = _mm512_packs_epi32(round_to_int(mul(first, factor)),
                                          round_to_int(mul(second, factor)));  // by 128 bits
    return _mm512_castsi512_ps(
        _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), mixed));
  }
  // Lane i holds (even[i], odd[i]).
  static Floats pair(Ints even, Ints odd) {
    return _mm512_castsi512_ps(
        _mm512_mask_blend_epi16(0xaaaaaaaa, even, _mm512_slli_epi32(odd, 16)));
  }

  // A weight times the scale of its value; a weight of zero stays zero, whatever the scale is.
  static Floats weigh(Floats weight, float scale) {
    const __mmask16 some = _mm512_cmp_ps_mask(weight, zero(), _CMP_GT_OQ);
    return _mm512_maskz_mul_ps(some, weight, broadcast(scale));
  }
  // What weights up to `largest` become integers with; zero where they are too small for that.
  static Floats inverse_range(Floats largest) {
    const __mmask16 enough = _mm512_cmp_ps_mask(largest, broadcast(0x1p-100f), _CMP_GE_OQ);
    return _mm512_maskz_div_ps(enough, broadcast(kLargest), largest);
  }

  // The largest magnitude of n elements of 2 bytes, n a multiple of kLanes: their bits without the
  // sign are in the order of the magnitudes, and those of what is not a number are above all.
  template <int kType>
  static float largest_of_row(const uint8_t* row, int64_t n) {
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i largest = _mm512_setzero_si512();
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
      largest =
          _mm512_max_epu16(largest, _mm512_and_si512(_mm512_loadu_si512(row + 2 * i), magnitude));
    if (i < n) {
      const __m256i last = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 2 * i));
      largest =
          _mm512_max_epu16(largest, _mm512_and_si512(_mm512_zextsi256_si512(last), magnitude));
    }
    const __m256i half =
        _mm256_max_epu16(_mm512_castsi512_si256(largest), _mm512_extracti64x4_epi64(largest, 1));
    const __m128i fourth =
        _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    const __m128i least = _mm_minpos_epu16(_mm_xor_si128(fourth, _mm_set1_epi16(-1)));
    const auto bits = static_cast<uint16_t>(~_mm_extract_epi16(least, 0));
    return kType == kF16 ? _cvtsh_ss(bits) : float_from_bits(uint32_t{bits} << 16);
  }

  // The two of RowScales for the row of each lane.
  static void fixed_points(Floats largest, float limit, float* scale, float* inverse) {
    const __mmask16 some = _mm512_cmp_ps_mask(largest, broadcast(0x1p-100f), _CMP_NLT_UQ);
    const __mmask16 finite = _mm512_cmp_ps_mask(largest, broadcast(0x1.fffffep127f), _CMP_LE_OQ);
    const Floats nothing = broadcast(__builtin_nanf("")), bound = broadcast(limit);
    store(scale,
          _mm512_mask_div_ps(_mm512_maskz_mov_ps(some, nothing), some & finite, largest, bound));
    store(inverse, _mm512_maskz_div_ps(some & finite, bound, largest));
  }
};
