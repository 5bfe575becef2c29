// Pairs of 16-bit integers in the lanes of AVX-512: see attention_units-inl.h. Registers of floats
// hold their bits, and those of their sums.

// The low halves of the lanes of two vectors: kEach of the one, as many of the other, and so on.
struct LowHalves {
  alignas(64) int16_t from[2 * kLanes];
};
template <int kEach>
constexpr LowHalves low_halves() {
  LowHalves choice = {};
  for (int i = 0; i < 2 * kLanes; ++i) {
    const int lot = i / kEach, lane = lot / 2 * kEach + i % kEach;
    choice.from[i] = static_cast<int16_t>(2 * (lane + lot % 2 * kLanes));
  }
  return choice;
}
template <int kEach>
Floats take_low_halves(Ints a, Ints b) {
  static constexpr LowHalves kChoice = low_halves<kEach>();
  return _mm512_castsi512_ps(_mm512_permutex2var_epi16(a, _mm512_load_si512(kChoice.from), b));
}

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

  // What is added leaves no room for fractions, and the integer where the mantissa ends.
  static Ints integers(Floats x, Floats inverse) {
    return _mm512_castps_si512(fma(x, inverse, broadcast(0x1.8p23f)));
  }
  // 2 kLanes elements that follow each other.
  static Floats pack(Floats first, Floats second, float inverse) {
    const Floats factor = broadcast(inverse);
    return take_low_halves<kLanes>(integers(first, factor), integers(second, factor));
  }
  // Lane i holds (even[i], odd[i]).
  static Floats pair(Ints even, Ints odd) { return take_low_halves<1>(even, odd); }
  // Units 0 .. kLanes / 2 - 1 of two rows, side by side.
  static Floats pair_rows(Floats a, float a_inverse, Floats b, float b_inverse) {
    return take_low_halves<2>(integers(a, broadcast(a_inverse)), integers(b, broadcast(b_inverse)));
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

  // The largest magnitudes of kLanes rows of n elements of 2 bytes, n a multiple of kLanes: their
  // bits without the sign are in the order of the magnitudes, and those of what is not a number are
  // above all.
  template <int kType>
  static Floats largest_of_rows(const uint8_t* const* rows, int64_t n) {
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i x[kLanes];  // of a row; then of two in turn, of four, of eight
    for (int i = 0; i < kLanes; ++i) {
      x[i] = _mm512_setzero_si512();
      int64_t d = 0;
      for (; d + 2 * kLanes <= n; d += 2 * kLanes)
        x[i] = _mm512_max_epu16(x[i],
                                _mm512_and_si512(_mm512_loadu_si512(rows[i] + 2 * d), magnitude));
      if (d == n) continue;
      const __m256i last = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i] + 2 * d));
      x[i] = _mm512_max_epu16(x[i], _mm512_and_si512(_mm512_zextsi256_si512(last), magnitude));
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i)
      x[i] = _mm512_max_epu16(_mm512_unpacklo_epi16(x[2 * i], x[2 * i + 1]),
                              _mm512_unpackhi_epi16(x[2 * i], x[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      x[i] = _mm512_max_epu16(_mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]),
                              _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]));
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
      x[i] = _mm512_max_epu16(_mm512_unpacklo_epi64(x[2 * i], x[2 * i + 1]),
                              _mm512_unpackhi_epi64(x[2 * i], x[2 * i + 1]));
    // Four lots of eight rows in each: two and two of them, then one and one.
    const __m512i halves = _mm512_max_epu16(_mm512_shuffle_i64x2(x[0], x[1], 0x44),
                                            _mm512_shuffle_i64x2(x[0], x[1], 0xee));
    const __m512i all =
        _mm512_max_epu16(halves, _mm512_shuffle_i64x2(halves, halves, 0xb1));  // each twice
    const __m256i bits = _mm512_castsi512_si256(_mm512_shuffle_i64x2(all, all, 0x08));
    if (kType == kF16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
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

  // Half a vector with each lane twice, side by side; two neighbours in turn in all lanes.
  static Floats each_twice(const float* p) {
    const Ints lane = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(lane, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
  }
  static Floats in_turn(const float* two) {
    int64_t bits;
    memcpy(&bits, two, sizeof(bits));
    return _mm512_castsi512_ps(_mm512_set1_epi64(bits));
  }
  // The sums of the first key, in even lanes, then those of the second.
  static Floats scaled_pair(Floats sums, const float* keys, const float* queries) {
    const Ints lane = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    const Floats key = _mm512_insertf32x8(broadcast(keys[0]), _mm256_set1_ps(keys[1]), 1);
    const Floats query = _mm512_broadcast_f32x8(_mm256_loadu_ps(queries));
    return mul(mul(floats(_mm512_permutexvar_ps(lane, sums)), key), query);
  }
};
