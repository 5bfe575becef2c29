// The kernels for AVX2 with FMA and F16C (Haswell, Zen 1 and later): 8 lanes.
#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "../codes.h"
#include "../half.h"
#include "../kernels.h"
#include "iq_tables.inc"
#include "tables.h"

namespace ferrum {
namespace {

constexpr int kLanes = 8;
constexpr int kRegisters = 16;
constexpr bool kWidens = true;  // floats of 2 bytes, in an instruction or two
using Floats = __m256;
using Ints = __m256i;

Floats broadcast(float x) { return _mm256_set1_ps(x); }
Floats zero() { return _mm256_setzero_ps(); }
Floats load(const float* p) { return _mm256_loadu_ps(p); }
void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
float reduce_add(Floats x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
void reduce_add_four(const Floats* x, float* out) {
  const auto fold = [](Floats a, Floats b) {  // lanes 4 apart, of a, then of b
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  };
  const Floats ab = fold(x[0], x[1]), cd = fold(x[2], x[3]);
  const Floats twos =
      _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  const Floats ones = _mm256_add_ps(twos, _mm256_movehdup_ps(twos));
  const __m128 ac = _mm256_castps256_ps128(ones), bd = _mm256_extractf128_ps(ones, 1);
  const __m128 even = _mm_shuffle_ps(ac, ac, 0x08), odd = _mm_shuffle_ps(bd, bd, 0x08);
  _mm_storeu_ps(out, _mm_unpacklo_ps(even, odd));
}
using HalfFloats = Floats;
// v[i]'s lane j becomes v[j]'s lane i: within four lanes, then halves.
void transpose(Floats* v) {
  for (Floats* x = v; x < v + 8; x += 4) {
    const Floats ab_low = _mm256_unpacklo_ps(x[0], x[1]), ab_high = _mm256_unpackhi_ps(x[0], x[1]);
    const Floats cd_low = _mm256_unpacklo_ps(x[2], x[3]), cd_high = _mm256_unpackhi_ps(x[2], x[3]);
    x[0] = _mm256_shuffle_ps(ab_low, cd_low, 0x44);
    x[1] = _mm256_shuffle_ps(ab_low, cd_low, 0xee);
    x[2] = _mm256_shuffle_ps(ab_high, cd_high, 0x44);
    x[3] = _mm256_shuffle_ps(ab_high, cd_high, 0xee);
  }
  for (Floats* x = v; x < v + 4; ++x) {
    const Floats low = _mm256_permute2f128_ps(x[0], x[4], 0x20);
    x[4] = _mm256_permute2f128_ps(x[0], x[4], 0x31);
    x[0] = low;
  }
}
Floats widen_half(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
Floats widen_bfloat16(const uint8_t* p) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
Ints round_to_int(Floats x) { return _mm256_cvtps_epi32(x); }
Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
Floats power_of_two(Ints n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
Floats scale(Floats x, Ints n) {
  const Ints half = _mm256_srai_epi32(n, 1);
  return mul(mul(x, power_of_two(half)), power_of_two(_mm256_sub_epi32(n, half)));
}

Ints magnitudes(Floats x) {
  return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}
Ints max_ints(Ints a, Ints b) { return _mm256_max_epi32(a, b); }
Ints add_ints(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
uint32_t reduce_max(Ints x) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1))));
}
int32_t reduce_add_ints(Ints x) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
void store_group(int8_t* q, const Ints* code) {
  // Packs work within 128 bits: each dword of the result is one code vector's half, out of order.
  const Ints low = _mm256_packs_epi32(code[0], code[1]),
             high = _mm256_packs_epi32(code[2], code[3]);
  const Ints order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q),
                      _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order));
}

// The compiler must not know how a sum came about. It would put additions off and regroup them
// until all products are there, many more than there are registers.
Ints settled(Ints sum) {
  asm("" : "+x"(sum));
  return sum;
}

constexpr int kNarrowPack = 2;

// In the order of their needs.
// clang-format off
#include "../exp-inl.h"
#include "../read_ahead-inl.h"
#include "../floats-inl.h"
#include "../float_products-inl.h"
#include "../attention_units-inl.h"
#include "attention_avx2-inl.h"
#include "../attention_scores-inl.h"
#include "../attention_key_pairs-inl.h"
#include "../attention-inl.h"
#include "../quantize-inl.h"
// clang-format on

// The vocabulary of tiles. It must be inlined for vectors to stay in registers, and in an unnamed
// namespace `inline` makes no weak symbol.
#define FERRUM_INLINED __attribute__((always_inline))
#define FERRUM_INLINE inline FERRUM_INLINED
constexpr int kRows = kLanes;
constexpr int kMaxSums = 8;  // of one group each, while tiles are multiplied
constexpr int kTileStrips = 1;
constexpr int kSumRegisters = 8;    // of 16, for sums of products while weights are unpacked
constexpr int kMostFewColumns = 2;  // multiplied while unpacking: beyond, tiles are as fast
constexpr int kWideBias = 0;        // codes that fill a byte keep their sign: see dot_quads
constexpr int code_class(int largest) {
  return largest <= 15 ? 15 : largest <= 31 ? 31 : largest <= 63 ? 63 : largest <= 127 ? 127 : 255;
}

#include "../rows-inl.h"

Ints zero_ints() { return _mm256_setzero_si256(); }
Ints broadcast_int(int32_t x) { return _mm256_set1_epi32(x); }
Floats subtract_product(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }
Ints and_(Ints a, Ints b) { return _mm256_and_si256(a, b); }
Ints or_(Ints a, Ints b) { return _mm256_or_si256(a, b); }
Ints xor_(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
Ints splat_byte(int x) { return _mm256_set1_epi8(static_cast<char>(x)); }
Ints splat_int(int x) { return _mm256_set1_epi32(x); }
Ints mul_ints(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
Ints dot_pairs(Ints sum, Ints a, Ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
template <int n>
FERRUM_INLINE Ints shift_left(Ints x) {
  return _mm256_slli_epi16(x, n);
}
template <int n>
FERRUM_INLINE Ints shift_right(Ints x) {
  return _mm256_srli_epi16(x, n);
}
template <int n>
FERRUM_INLINE Ints shift_left_32(Ints x) {
  return _mm256_slli_epi32(x, n);
}
template <int n>
FERRUM_INLINE Ints shift_right_32(Ints x) {
  return _mm256_srli_epi32(x, n);
}
FERRUM_INLINE Ints table16(const int8_t* values, int bias) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
  return _mm256_broadcastsi128_si256(_mm_add_epi8(table, _mm_set1_epi8(static_cast<char>(bias))));
}
Ints look_up(Ints table, Ints indices) { return _mm256_shuffle_epi8(table, indices); }
FERRUM_INLINE Floats half_lanes(Ints x) {
  const Ints low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
  const __m128i a = _mm256_castsi256_si128(low), b = _mm256_extracti128_si256(low, 1);
  return _mm256_cvtph_ps(_mm_packus_epi32(a, b));
}
FERRUM_INLINE Floats gather_halves(const Rows& rows, int at) {
  const auto half = [&](int r) { return static_cast<short>(read_u16(rows.row(r) + at)); };
  return _mm256_cvtph_ps(
      _mm_setr_epi16(half(0), half(1), half(2), half(3), half(4), half(5), half(6), half(7)));
}
FERRUM_INLINE Ints gather_u32(const Rows& rows, int at) {
  const auto word = [&](int r) { return static_cast<int>(read_u32(rows.row(r) + at)); };
  return _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7));
}
// Byte kByte of each lane.
template <int kByte, int kTimes>
FERRUM_INLINE Ints byte_lane(Ints x) {
  static_assert(kTimes == 1, "as top_nibbles need");
  return _mm256_and_si256(_mm256_srli_epi32(x, 8 * kByte), _mm256_set1_epi32(255));
}
// High nibbles, moved down: where they lie they would saturate vpmaddubsw.
constexpr int kTopTimes = 1;
FERRUM_INLINE Ints top_nibbles(Ints x) {
  return _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(15));
}
// Four bits from bit kFirst on, each to bit kTo of a byte: a product puts a copy of them, shifted
// by 0, 7, 14 and 21, under each byte's lowest bit.
template <int kFirst, int kTo = 4>
FERRUM_INLINE Ints spread_bits(Ints words) {
  const Ints four = _mm256_and_si256(_mm256_srli_epi32(words, kFirst), _mm256_set1_epi32(15));
  const Ints copies = _mm256_mullo_epi32(four, _mm256_set1_epi32(0x00204081));
  return _mm256_slli_epi32(_mm256_and_si256(copies, _mm256_set1_epi32(0x01010101)), kTo);
}
FERRUM_INLINE Ints blend_halves(Ints low, Ints high) { return _mm256_blend_epi16(low, high, 0xaa); }

// Loads one by one: a gather is hardly faster, and far slower where CPUs guard it in microcode.
template <class Grid>
FERRUM_INLINE Ints look_up_each(const Grid& grid, Ints indices) {
  alignas(32) int64_t words[4];
  _mm256_store_si256(reinterpret_cast<Ints*>(words), indices);
#pragma GCC unroll 4
  for (int64_t& word : words) {
    const auto four = static_cast<uint64_t>(word);
    const auto entry = [&](int i) -> uint64_t { return grid.entries[four >> 16 * i & 0xffff]; };
    word = static_cast<int64_t>(entry(0) | entry(1) << 16 | entry(2) << 32 | entry(3) << 48);
  }
  return _mm256_setr_epi64x(words[0], words[1], words[2], words[3]);
}

// Row r and the one 4 further down: 16 bytes of each.
FERRUM_INLINE Ints load_fourth_rows(const Rows& rows, int r, int at) {
  const auto row = [&](int i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.row(i) + at));
  };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(row(r)), row(r + 4), 1);
}

// 16 bytes of each of 8 rows: out[i] holds bytes 4 i .. 4 i + 3 of every row, a row per lane.
FERRUM_INLINE void transpose16(const Rows& all, int at, Ints* out) {
  const Rows rows = all.hidden();
  const Ints a = load_fourth_rows(rows, 0, at), b = load_fourth_rows(rows, 1, at);
  const Ints c = load_fourth_rows(rows, 2, at), d = load_fourth_rows(rows, 3, at);
  const Ints ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
  const Ints cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
  out[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
  out[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
  out[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
  out[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}

FERRUM_INLINE Ints broadcast_quad(const int8_t* x) {
  int32_t quad;
  memcpy(&quad, x, sizeof quad);
  return _mm256_set1_epi32(quad);
}

// sums[c] += the dot products of kQuads quads of every row with the activations from `at` on.
//
// vpmaddubsw adds two products in int16 and saturates. Codes up to 63 are safe, and so many quads
// as still fit are added up before they are widened. Codes that fill a byte are multiplied by
// magnitude, their sign moved to the activation: 2 * 128 * 127 fits because activations stay
// within +-127.
template <class Kind, int kQuads, int kColumns>
FERRUM_INLINE void dot_quads(const Ints* quads, const int8_t* const* x, int at, Ints* sums) {
  constexpr bool kSigned = Kind::kMaxCode > 128;
  constexpr int kFit = kSigned ? 1 : 32767 / (2 * 127 * Kind::kMaxCode);
  constexpr int kRun = kFit < kQuads ? kFit : kQuads;
  static_assert(kRun > 0, "one product of two codes must fit");
  const Ints ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
  for (int first = 0; first < kQuads; first += kRun) {
    const int end = first + kRun < kQuads ? first + kRun : kQuads;
    Ints run[kColumns];
#pragma GCC unroll 8
    for (int i = first; i < end; ++i) {
      const Ints w = quads[i];
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {
        const Ints quad = broadcast_quad(x[c] + at + 4 * i);
        const Ints pairs = kSigned
                               ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(quad, w))
                               : _mm256_maddubs_epi16(w, quad);
        run[c] = i == first ? pairs : settled(_mm256_add_epi16(run[c], pairs));
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c)
      sums[c] = settled(_mm256_add_epi32(sums[c], _mm256_madd_epi16(run[c], ones)));
  }
}

// sum + the dot product of one quad of every row with four activations. See dot_quads.
template <class Kind>
FERRUM_INLINE Ints dot_quad(Ints quad, const int8_t* x, Ints sum) {
  const int8_t* column[1] = {x};
  dot_quads<Kind, 1, 1>(&quad, column, 0, &sum);
  return sum;
}

// Strips are as fast: they read few places at once.
template <class Format>
bool multiply_in_order(const uint8_t*, size_t, int64_t, int64_t, const Int8Row*, int64_t, float*,
                       int64_t, const uint8_t*) {
  return false;
}

// clang-format off
#include "../tile-inl.h"
#include "../unpack-inl.h"
#include "../unpack_k-inl.h"
#include "../unpack_small-inl.h"
#include "../grid_entries-inl.h"
#include "../unpack_iq-inl.h"
#include "../strip-inl.h"
#include "../tile_kernels-inl.h"
// clang-format on

}  // namespace

extern const Kernels kAvx2Kernels = {"avx2",          find,           quantize,
                                     rms_norm,        silu_multiply,  weighted_sum,
                                     arrange_queries, attention_tile, kNarrowPack > 1};

}  // namespace ferrum
