// The kernels for AVX-512 with VNNI (Ice Lake, Zen 4 and later): 16 lanes.
// GCC 12 takes the undefined vectors inside its own intrinsics for ours (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

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

constexpr int kLanes = 16;
constexpr int kRegisters = 32;
constexpr bool kWidens = true;  // floats of 2 bytes, in an instruction or two
using Floats = __m512;
using Ints = __m512i;

Floats broadcast(float x) { return _mm512_set1_ps(x); }
Floats zero() { return _mm512_setzero_ps(); }
Floats load(const float* p) { return _mm512_loadu_ps(p); }
void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
float reduce_add(Floats x) { return _mm512_reduce_add_ps(x); }
void reduce_add_four(const Floats* x, float* out) {
  const auto fold = [](Floats a, Floats b) {  // lanes 8 apart, of a, then of b
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  };
  const Floats ab = fold(x[0], x[1]), cd = fold(x[2], x[3]);
  const Floats fours =
      _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  const Floats twos = _mm512_add_ps(fours, _mm512_permute_ps(fours, 0x4e));
  const Floats ones = _mm512_add_ps(twos, _mm512_permute_ps(twos, 0xb1));
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, ones)));
}
// Half vectors, for attention's panels of few queries.
using HalfFloats = __m256;
void load_to(HalfFloats* x, const float* p) { *x = _mm256_loadu_ps(p); }
void broadcast_to(HalfFloats* x, float value) { *x = _mm256_set1_ps(value); }
HalfFloats fma(HalfFloats a, HalfFloats b, HalfFloats c) { return _mm256_fmadd_ps(a, b, c); }
void store(float* p, HalfFloats x) { _mm256_storeu_ps(p, x); }
// v[i]'s lane j becomes v[j]'s lane i: within four lanes, then fours of lanes.
void transpose(Floats* v) {
  for (Floats* x = v; x < v + 16; x += 4) {
    const Floats ab_low = _mm512_unpacklo_ps(x[0], x[1]), ab_high = _mm512_unpackhi_ps(x[0], x[1]);
    const Floats cd_low = _mm512_unpacklo_ps(x[2], x[3]), cd_high = _mm512_unpackhi_ps(x[2], x[3]);
    x[0] = _mm512_shuffle_ps(ab_low, cd_low, 0x44);
    x[1] = _mm512_shuffle_ps(ab_low, cd_low, 0xee);
    x[2] = _mm512_shuffle_ps(ab_high, cd_high, 0x44);
    x[3] = _mm512_shuffle_ps(ab_high, cd_high, 0xee);
  }
  for (Floats* x = v; x < v + 4; ++x) {
    const Floats ab_even = _mm512_shuffle_f32x4(x[0], x[4], 0x88);
    const Floats ab_odd = _mm512_shuffle_f32x4(x[0], x[4], 0xdd);
    const Floats cd_even = _mm512_shuffle_f32x4(x[8], x[12], 0x88);
    const Floats cd_odd = _mm512_shuffle_f32x4(x[8], x[12], 0xdd);
    x[0] = _mm512_shuffle_f32x4(ab_even, cd_even, 0x88);
    x[4] = _mm512_shuffle_f32x4(ab_odd, cd_odd, 0x88);
    x[8] = _mm512_shuffle_f32x4(ab_even, cd_even, 0xdd);
    x[12] = _mm512_shuffle_f32x4(ab_odd, cd_odd, 0xdd);
  }
}
Floats widen_half(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
Floats widen_bfloat16(const uint8_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
Ints round_to_int(Floats x) { return _mm512_cvtps_epi32(x); }
Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
Floats scale(Floats x, Ints n) { return _mm512_scalef_ps(x, _mm512_cvtepi32_ps(n)); }

Ints magnitudes(Floats x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}
Ints max_ints(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
uint32_t reduce_max(Ints x) { return static_cast<uint32_t>(_mm512_reduce_max_epi32(x)); }
int32_t reduce_add_ints(Ints x) { return _mm512_reduce_add_epi32(x); }
void store_group(int8_t* q, const Ints* code) {
  for (int i = 0; i < 2; ++i)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q) + i, _mm512_cvtepi32_epi8(code[i]));
}

constexpr int kNarrowPack = 2;  // vpdpwssd adds two products of 16 bits to every lane

// In the order of their needs.
// clang-format off
#include "../exp-inl.h"
#include "../read_ahead-inl.h"
#include "../floats-inl.h"
#include "../float_products-inl.h"
#include "bfloat16_avx512-inl.h"
#include "../attention_units-inl.h"
#include "attention_avx512-inl.h"
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
constexpr int kMaxSums = 8;         // of one group each, while tiles are multiplied
constexpr int kTileStrips = 2;      // that meet columns at once: fewer broadcasts
constexpr int kSumRegisters = 16;   // of 32, for sums of products while weights are unpacked
constexpr int kMostFewColumns = 8;  // multiplied while unpacking: beyond, tiles are as fast
constexpr int kWideBias = 128;      // vpdpbusd takes any unsigned byte without saturating
constexpr int code_class(int) { return 255; }

#include "../rows-inl.h"

Ints zero_ints() { return _mm512_setzero_si512(); }
Ints broadcast_int(int32_t x) { return _mm512_set1_epi32(x); }
Floats subtract_product(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
Ints and_(Ints a, Ints b) { return _mm512_and_si512(a, b); }
Ints or_(Ints a, Ints b) { return _mm512_or_si512(a, b); }
Ints xor_(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
Ints splat_byte(int x) { return _mm512_set1_epi8(static_cast<char>(x)); }
Ints splat_int(int x) { return _mm512_set1_epi32(x); }
Ints mul_ints(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
Ints dot_pairs(Ints sum, Ints a, Ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
template <int n>
FERRUM_INLINE Ints shift_left(Ints x) {
  return _mm512_slli_epi16(x, n);
}
template <int n>
FERRUM_INLINE Ints shift_right(Ints x) {
  return _mm512_srli_epi16(x, n);
}
template <int n>
FERRUM_INLINE Ints shift_left_32(Ints x) {
  return _mm512_slli_epi32(x, n);
}
template <int n>
FERRUM_INLINE Ints shift_right_32(Ints x) {
  return _mm512_srli_epi32(x, n);
}
FERRUM_INLINE Ints table16(const int8_t* values, int bias) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
  return _mm512_broadcast_i32x4(_mm_add_epi8(table, _mm_set1_epi8(static_cast<char>(bias))));
}
Ints look_up(Ints table, Ints indices) { return _mm512_shuffle_epi8(table, indices); }
FERRUM_INLINE Floats half_lanes(Ints x) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)); }
FERRUM_INLINE __m128i gather_8_halves(const Rows& rows, int first, int at) {
  const auto half = [&](int r) { return static_cast<short>(read_u16(rows.row(first + r) + at)); };
  return _mm_setr_epi16(half(0), half(1), half(2), half(3), half(4), half(5), half(6), half(7));
}
FERRUM_INLINE Floats gather_halves(const Rows& rows, int at) {
  const __m256i low = _mm256_castsi128_si256(gather_8_halves(rows, 0, at));
  return _mm512_cvtph_ps(_mm256_inserti128_si256(low, gather_8_halves(rows, 8, at), 1));
}
FERRUM_INLINE __m128i gather_4_u32(const Rows& rows, int first, int at) {
  const auto word = [&](int r) { return static_cast<int>(read_u32(rows.row(first + r) + at)); };
  return _mm_setr_epi32(word(0), word(1), word(2), word(3));
}
FERRUM_INLINE Ints gather_u32(const Rows& rows, int at) {
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(gather_4_u32(rows, 0, at)),
                                              gather_4_u32(rows, 4, at), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(gather_4_u32(rows, 8, at)),
                                               gather_4_u32(rows, 12, at), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
// kTimes byte kByte of each lane: a dot product with a single number does a shift's, a mask's and
// a product's work.
template <int kByte, int kTimes>
FERRUM_INLINE Ints byte_lane(Ints x) {
  return _mm512_dpbusd_epi32(_mm512_setzero_si512(), x, _mm512_set1_epi32(kTimes << 8 * kByte));
}
// High nibbles where they lie, 16 times too large: vpdpbusd takes 240 as well as 15, and the
// weights' scales take the factor out exactly.
constexpr int kTopTimes = 16;
FERRUM_INLINE Ints top_nibbles(Ints x) { return _mm512_and_si512(x, _mm512_set1_epi8(-16)); }
// Four bits from bit kFirst on, each to bit kTo of a byte.
template <int kFirst, int kTo = 4>
FERRUM_INLINE Ints spread_bits(Ints words) {
  constexpr int a = 1 << kTo, b = a << 8, c = a << 16, d = a << 24;
  const Ints spread = _mm512_setr_epi32(0, a, b, a | b, c, a | c, b | c, a | b | c, d, a | d, b | d,
                                        a | b | d, c | d, a | c | d, b | c | d, a | b | c | d);
  return _mm512_permutexvar_epi32(_mm512_srli_epi32(words, kFirst), spread);  // by the low 4 bits
}

// Bytes kFirst .. kFirst + kCount - 1 of one plane of a grid, for two vectors of indices.
template <int kFirst, int kCount>
FERRUM_INLINE void look_up_bytes(const uint8_t* plane, const Ints* low, const Ints* high,
                                 Ints* out) {
  if constexpr (kCount == 128) {  // what one instruction looks up
    const Ints first = _mm512_load_si512(plane + kFirst);
    const Ints second = _mm512_load_si512(plane + kFirst + 64);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) out[i] = _mm512_permutex2var_epi8(first, low[i], second);
  } else {
    constexpr int kHalf = kCount / 2;
    Ints upper[2];
    look_up_bytes<kFirst, kHalf>(plane, low, high, out);
    look_up_bytes<kFirst + kHalf, kHalf>(plane, low, high, upper);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __mmask64 in_upper =
          kHalf == 128 ? _mm512_movepi8_mask(low[i])
                       : _mm512_test_epi8_mask(high[i], _mm512_set1_epi8(kHalf / 256));
      out[i] = _mm512_mask_blend_epi8(in_upper, out[i], upper[i]);
    }
  }
}
template <class Grid>
FERRUM_INLINE void look_up_entries(const Grid& grid, const Ints* low, const Ints* high, Ints* out) {
  const Ints even = _mm512_set1_epi32(0x00ff00ff);
  Ints first[2], second[2];
  look_up_bytes<0, Grid::kCount>(grid.planes[0], low, high, first);
  look_up_bytes<0, Grid::kCount>(grid.planes[1], low, high, second);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Ints left = _mm512_slli_epi16(second[i], 8), right = _mm512_srli_epi16(first[i], 8);
    out[2 * i] = _mm512_ternarylogic_epi32(even, first[i], left, 0xca);
    out[2 * i + 1] = _mm512_ternarylogic_epi32(even, right, second[i], 0xca);
  }
}

// The bits from kFirst on, from kOdd and kPair further on and from both further on, to the four
// bytes of each lane.
template <int kFirst, int kOdd, int kPair>
FERRUM_INLINE Ints pick_unaligned(Ints x) {
  constexpr auto at = [](int bit) { return static_cast<uint64_t>(bit & 63); };
  constexpr uint64_t kLane = at(kFirst) | at(kFirst + kOdd) << 8 | at(kFirst + kPair) << 16 |
                             at(kFirst + kPair + kOdd) << 24;
  constexpr uint64_t kNext = kLane ^ 0x20202020;  // 32 bits further on
  return _mm512_multishift_epi64_epi8(_mm512_set1_epi64(static_cast<int64_t>(kLane | kNext << 32)),
                                      x);
}
template <int kWidth, int kFrom, int kSign>
FERRUM_INLINE Ints signed_quad(Ints entries, Ints signs, Ints values) {
  const Ints ranks = pick_unaligned<kFrom, 8, kWidth>(entries);
  const Ints bits = pick_unaligned<kSign - 3, 1, 2>(signs);
  // The values four times over: the two bits above an index do not matter.
  return _mm512_permutexvar_epi8(_mm512_ternarylogic_epi32(splat_byte(7), ranks, bits, 0xca),
                                 values);
}

// Row r and those 4, 8 and 12 further down: 16 bytes of each.
template <class SomeRows>
FERRUM_INLINE Ints load_fourth_rows(const SomeRows& rows, int r, int at) {
  const auto row = [&](int i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.row(i) + at));
  };
  // Half-width inserts from memory: full-width loads would halve the load rate.
  const __m256i upper = _mm256_inserti128_si256(_mm256_castsi128_si256(row(r)), row(r + 4), 1);
  const __m256i lower = _mm256_inserti128_si256(_mm256_castsi128_si256(row(r + 8)), row(r + 12), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(upper), lower, 1);
}

// Within every 128 bits, v[i]'s lane j becomes out[j]'s lane i.
FERRUM_INLINE void turn_lanes(const Ints* v, Ints* out) {
  const Ints ab_low = _mm512_unpacklo_epi32(v[0], v[1]);
  const Ints ab_high = _mm512_unpackhi_epi32(v[0], v[1]);
  const Ints cd_low = _mm512_unpacklo_epi32(v[2], v[3]);
  const Ints cd_high = _mm512_unpackhi_epi32(v[2], v[3]);
  out[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
  out[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
  out[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
  out[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}

// 16 bytes of each of 16 rows: out[i] holds bytes 4 i .. 4 i + 3 of every row, a row per lane.
template <class SomeRows>
FERRUM_INLINE void transpose16(const SomeRows& all, int at, Ints* out) {
  const SomeRows rows = all.hidden();
  const Ints v[4] = {load_fourth_rows(rows, 0, at), load_fourth_rows(rows, 1, at),
                     load_fourth_rows(rows, 2, at), load_fourth_rows(rows, 3, at)};
  turn_lanes(v, out);
}

FERRUM_INLINE Ints broadcast_quad(const int8_t* x) {
  int32_t quad;
  memcpy(&quad, x, sizeof quad);
  return _mm512_set1_epi32(quad);
}

// sum + the dot product of one quad of every row with four activations.
template <class Kind>
FERRUM_INLINE Ints dot_quad(Ints quad, const int8_t* x, Ints sum) {
  return _mm512_dpbusd_epi32(sum, quad, broadcast_quad(x));
}

// sums[c] += the dot products of kQuads quads of every row with the activations from `at` on.
template <class Kind, int kQuads, int kColumns>
FERRUM_INLINE void dot_quads(const Ints* quads, const int8_t* const* x, int at, Ints* sums) {
#pragma GCC unroll 8
  for (int i = 0; i < kQuads; ++i) {
    const Ints w = quads[i];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) sums[c] = dot_quad<Kind>(w, x[c] + at + 4 * i, sums[c]);
  }
}

// clang-format off
#include "../tile-inl.h"
#include "../unpack-inl.h"
#include "../unpack_k-inl.h"
#include "../unpack_small-inl.h"
#include "../unpack_iq-inl.h"
#include "run_lanes_avx512-inl.h"
#include "run_codes_avx512-inl.h"
#include "run_columns_avx512-inl.h"
#include "few_columns_avx512-inl.h"
#include "in_order_avx512-inl.h"
#include "../strip-inl.h"
#include "../tile_kernels-inl.h"
// clang-format on

// BF16's row where the CPU multiplies pairs of bfloat16.
constexpr QuantKernels with_pairs(QuantKernels row) {
  row.bfloat16 = matmul_pairs;
  return row;
}
constexpr QuantKernels kBfloat16Pairs = with_pairs(*find(kBF16));

const QuantKernels* find_here(int type) {
  return type == kBF16 && __builtin_cpu_supports("avx512bf16") ? &kBfloat16Pairs : find(type);
}

}  // namespace

extern const Kernels kAvx512Kernels = {"avx512",        find_here,      quantize,
                                       rms_norm,        silu_multiply,  weighted_sum,
                                       arrange_queries, attention_tile, kNarrowPack > 1};

}  // namespace ferrum
