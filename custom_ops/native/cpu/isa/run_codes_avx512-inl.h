// Runs of 256 weights where they lie, for one column or two on AVX-512 (run_columns_avx512-inl.h):
// their codes in vectors of 64, and the scales of 16 runs at once. A format that is not here is
// multiplied by tiles.

constexpr int kCodeVectors = kSuperBlock / 64;

// Which values the quarters of a run's code vectors hold, as formats have them.
enum class CodeOrder {
  groups,         // as they come
  nibble_pairs,   // 32 bytes' low nibbles are a group, the high ones the next: two of each a vector
  nibble_halves,  // 16 bytes' low nibbles are half a group, the high ones its other half
};

// The 16 values, counted through the run, in one quarter of a code vector.
constexpr int half_at(CodeOrder order, int vector, int quarter) {
  const int four = vector / 2 * 4, odd = vector % 2;
  if (order == CodeOrder::nibble_pairs) return 2 * (four + odd + quarter / 2 * 2) + quarter % 2;
  if (order == CodeOrder::nibble_halves) return 2 * (four + quarter) + odd;
  return 4 * vector + quarter;
}

// RunOf<Format> has kOrder, codes(a run's bytes, kCodeVectors vectors to fill) and scales(kRuns
// runs, where they go: scale, min and integers as of a Tile).
template <class Format>
struct RunOf;

// What was loaded, of which the compiler forgets from where: it would load it again for every use.
FERRUM_INLINE Ints loaded(Ints bytes) {
  asm("" : "+v"(bytes));
  return bytes;
}
FERRUM_INLINE Ints load_64(const uint8_t* p) { return loaded(_mm512_loadu_si512(p)); }

template <int kOdd, bool kIntegers, class Sink>
FERRUM_INLINE void put_scales(const ScalesK4& scales, Sink* sink) {
  if (kIntegers) {
    scales.store<kOdd>(&sink->integers);
  } else {
    scales.put<0, kOdd>(sink);
    scales.put<1, kOdd>(sink);
    scales.put<2, kOdd>(sink);
    scales.put<3, kOdd>(sink);
  }
}

template <bool kIntegers>
struct RunOf<FormatQ4_K<kIntegers>> {
  static constexpr CodeOrder kOrder = CodeOrder::nibble_pairs;
  static FERRUM_INLINE void codes(const uint8_t* run, Ints* out) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const Ints bytes = load_64(run + 16 + 64 * i);
      out[2 * i] = low_nibbles(bytes);
      out[2 * i + 1] = top_nibbles(bytes);
    }
  }
  template <class Sink>
  static FERRUM_INLINE void scales(const Rows& runs, Sink* sink) {
    put_scales<kTopTimes, kIntegers>(ScalesK4(runs), sink);
  }
};

// Bits kLow and up of the lower 32 bytes, bits kHigh and up of the upper ones, moved to bit 4.
template <int kLow, int kHigh>
FERRUM_INLINE Ints bits_to_4(Ints x) {
  constexpr auto up = [](int from) { return from < 4 ? 4 - from : 0; };
  constexpr auto down = [](int from) { return from > 4 ? from - 4 : 0; };
  const auto halves = [](int low, int high) FERRUM_INLINED {
    return _mm512_inserti64x4(_mm512_set1_epi16(static_cast<int16_t>(low)),
                              _mm256_set1_epi16(static_cast<int16_t>(high)), 1);
  };
  if constexpr (kLow < 4 || kHigh < 4) x = _mm512_sllv_epi16(x, halves(up(kLow), up(kHigh)));
  if constexpr (kLow > 4 || kHigh > 4) x = _mm512_srlv_epi16(x, halves(down(kLow), down(kHigh)));
  return x;
}

// a | (b & mask)
FERRUM_INLINE Ints or_masked(Ints a, Ints b, int mask) {
  return _mm512_ternarylogic_epi32(a, b, splat_byte(mask), 0xf8);
}

FERRUM_INLINE Ints twice_32(const uint8_t* p) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return loaded(_mm512_broadcast_i64x4(bytes));
}

template <bool kIntegers>
struct RunOf<FormatQ5_K<kIntegers>> {
  static constexpr CodeOrder kOrder = CodeOrder::nibble_pairs;
  static FERRUM_INLINE void codes(const uint8_t* run, Ints* out) {
    const Ints bits = twice_32(run + 16);
    const Ints first = load_64(run + 48), second = load_64(run + 112);
    out[0] = or_masked(low_nibbles(first), bits_to_4<0, 2>(bits), 16);
    out[1] = or_masked(high_nibbles(first), bits_to_4<1, 3>(bits), 16);
    out[2] = or_masked(low_nibbles(second), bits_to_4<4, 6>(bits), 16);
    out[3] = or_masked(high_nibbles(second), bits_to_4<5, 7>(bits), 16);
  }
  template <class Sink>
  static FERRUM_INLINE void scales(const Rows& runs, Sink* sink) {
    put_scales<1, kIntegers>(ScalesK4(runs), sink);
  }
};

template <>
struct RunOf<FormatQ6_K> {
  static constexpr CodeOrder kOrder = CodeOrder::groups;
  static FERRUM_INLINE void codes(const uint8_t* run, Ints* out) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const Ints bytes = load_64(run + 64 * i), bits = twice_32(run + 128 + 32 * i);
      out[2 * i] = or_masked(low_nibbles(bytes), bits_to_4<0, 2>(bits), 0x30);
      out[2 * i + 1] = or_masked(high_nibbles(bytes), bits_to_4<4, 6>(bits), 0x30);
    }
  }
  template <class Sink>
  static FERRUM_INLINE void scales(const Rows& runs, Sink* sink) {
    FormatQ6_K::unpack_scales(runs, sink);
  }
};

// The float16 at the head of each of a run's eight blocks, as 16 bytes.
template <int kBytes>
FERRUM_INLINE __m128i heads_of(const uint8_t* run) {
  constexpr int kWords = kBytes / 2;
  const auto pick = [](const uint8_t* from, __m512i words) FERRUM_INLINED {
    return _mm512_castsi512_si128(
        _mm512_permutex2var_epi16(_mm512_loadu_si512(from), words, _mm512_loadu_si512(from + 64)));
  };
  const auto words = [](int first, int count) FERRUM_INLINED {
    alignas(64) int16_t at[32] = {};
    for (int i = 0; i < count; ++i) at[i] = static_cast<int16_t>((first + i) * kWords);
    return _mm512_load_si512(at);
  };
  if constexpr (7 * kWords < 64) return pick(run, words(0, 8));
  const __m512i four = words(0, 4);
  return _mm_unpacklo_epi64(pick(run, four), pick(run + 4 * kBytes, four));
}

template <int kBytes>
FERRUM_INLINE void scales_of_blocks(const Rows& runs, Floats* scale) {
  alignas(64) __m128i heads[kRuns];
  for (int run = 0; run < kRuns; ++run) heads[run] = heads_of<kBytes>(runs.row(run));
  Ints pairs[4];
  transpose16(Rows(reinterpret_cast<const uint8_t*>(heads), sizeof *heads), 0, pairs);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    scale[2 * i] = half_lanes(pairs[i]);
    scale[2 * i + 1] = half_lanes(shift_right_32<16>(pairs[i]));
  }
}

template <>
struct RunOf<FormatQ8_0> {
  static constexpr CodeOrder kOrder = CodeOrder::groups;
  static FERRUM_INLINE void codes(const uint8_t* run, Ints* out) {
#pragma GCC unroll 4
    for (int i = 0; i < kCodeVectors; ++i) {
      const auto group = [&](int g) FERRUM_INLINED {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(run + 34 * g + 2));
      };
      const Ints pair =
          _mm512_inserti64x4(_mm512_castsi256_si512(group(2 * i)), group(2 * i + 1), 1);
      out[i] = xor_(pair, splat_byte(kWideBias));
    }
  }
  template <class Sink>
  static FERRUM_INLINE void scales(const Rows& runs, Sink* sink) {
    scales_of_blocks<34>(runs, sink->scale);
  }
};

// 64 bytes' nibbles as indices into 16 values.
FERRUM_INLINE void look_up_nibbles(Ints values, Ints bytes, Ints* out) {
  out[0] = look_up(values, low_nibbles(bytes));
  out[1] = look_up(values, high_nibbles(bytes));
}

template <>
struct RunOf<FormatIQ4_XS> {
  static constexpr CodeOrder kOrder = CodeOrder::nibble_halves;
  static FERRUM_INLINE void codes(const uint8_t* run, Ints* out) {
    const Ints values = table16(kValuesIQ4, kWideBias);
    look_up_nibbles(values, load_64(run + 8), out);
    look_up_nibbles(values, load_64(run + 72), out + 2);
  }
  template <class Sink>
  static FERRUM_INLINE void scales(const Rows& runs, Sink* sink) {
    FormatIQ4_XS::unpack_all_scales(runs, sink);
  }
};

// 16 bytes each of four blocks that are kBytes apart.
template <int kBytes>
FERRUM_INLINE Ints load_four(const uint8_t* p) {
  const auto block = [&](int i) FERRUM_INLINED {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + kBytes * i));
  };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(block(0)), block(1), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(block(2)), block(3), 1);
  return loaded(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}

template <>
struct RunOf<FormatQ4_0> {
  static constexpr CodeOrder kOrder = CodeOrder::nibble_halves;
  static FERRUM_INLINE void codes(const uint8_t* run, Ints* out) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const Ints bytes = load_four<18>(run + 72 * i + 2);
      out[2 * i] = low_nibbles(bytes);
      out[2 * i + 1] = high_nibbles(bytes);
    }
  }
  template <class Sink>
  static FERRUM_INLINE void scales(const Rows& runs, Sink* sink) {
    scales_of_blocks<18>(runs, sink->scale);
  }
};

template <>
struct RunOf<FormatIQ4_NL> : RunOf<FormatQ4_0> {
  static FERRUM_INLINE void codes(const uint8_t* run, Ints* out) {
    const Ints values = table16(kValuesIQ4, kWideBias);
    look_up_nibbles(values, load_four<18>(run + 2), out);
    look_up_nibbles(values, load_four<18>(run + 74), out + 2);
  }
};

template <>
struct RunOf<FormatMXFP4> {
  static constexpr CodeOrder kOrder = CodeOrder::nibble_halves;
  static FERRUM_INLINE void codes(const uint8_t* run, Ints* out) {
    const Ints values = table16(kValuesFP4, FormatMXFP4::kBias);
    look_up_nibbles(values, load_four<17>(run + 1), out);
    look_up_nibbles(values, load_four<17>(run + 69), out + 2);
  }
  template <class Sink>
  static FERRUM_INLINE void scales(const Rows& runs, Sink* sink) {
    Rows at = runs;
    for (int g = 0; g < kTileGroups; ++g, at.skip(17))
      sink->scale[g] = FormatMXFP4::gather_scale(at);
  }
};
