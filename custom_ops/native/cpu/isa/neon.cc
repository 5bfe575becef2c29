// The kernels for NEON with the dot products of ARMv8.2 (Cortex-A76, Neoverse N1, Apple M1 and
// later): 4 lanes.
#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "../codes.h"
#include "../half.h"
#include "../kernels.h"
#include "iq_tables.inc"
#include "tables.h"

namespace ferrum {
namespace {

constexpr int kLanes = 4;
constexpr int kRegisters = 32;
constexpr bool kWidens = true;  // floats of 2 bytes, in an instruction or two
using Floats = float32x4_t;
using Ints = int32x4_t;

Floats broadcast(float x) { return vdupq_n_f32(x); }
Floats zero() { return vdupq_n_f32(0.0f); }
Floats load(const float* p) {  // at any byte: a file's rows of floats are no better aligned
  return vreinterpretq_f32_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p)));
}
void store(float* p, Floats x) { vst1q_f32(p, x); }
Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
Floats sub(Floats a, Floats b) { return vsubq_f32(a, b); }
Floats mul(Floats a, Floats b) { return vmulq_f32(a, b); }
Floats div(Floats a, Floats b) { return vdivq_f32(a, b); }
Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
Floats max(Floats a, Floats b) { return vmaxq_f32(a, b); }  // NaN if either is
Floats min(Floats a, Floats b) { return vminq_f32(a, b); }
float reduce_add(Floats x) { return vaddvq_f32(x); }
void reduce_add_four(const Floats* x, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = reduce_add(x[i]);
}
using HalfFloats = Floats;
// v[i]'s lane j becomes v[j]'s lane i.
void transpose(Floats* v) {
  const float64x2_t ab_even = vreinterpretq_f64_f32(vtrn1q_f32(v[0], v[1]));
  const float64x2_t ab_odd = vreinterpretq_f64_f32(vtrn2q_f32(v[0], v[1]));
  const float64x2_t cd_even = vreinterpretq_f64_f32(vtrn1q_f32(v[2], v[3]));
  const float64x2_t cd_odd = vreinterpretq_f64_f32(vtrn2q_f32(v[2], v[3]));
  v[0] = vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even));
  v[1] = vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd));
  v[2] = vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even));
  v[3] = vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd));
}
Floats widen_half(const uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
Floats widen_bfloat16(const uint8_t* p) {
  return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
Ints round_to_int(Floats x) { return vcvtnq_s32_f32(x); }
Floats to_floats(Ints x) { return vcvtq_f32_s32(x); }
Floats power_of_two(Ints n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
Floats scale(Floats x, Ints n) {
  const Ints half = vshrq_n_s32(n, 1);
  return mul(mul(x, power_of_two(half)), power_of_two(vsubq_s32(n, half)));
}

Ints magnitudes(Floats x) { return vreinterpretq_s32_f32(vabsq_f32(x)); }
Ints max_ints(Ints a, Ints b) { return vmaxq_s32(a, b); }
Ints add_ints(Ints a, Ints b) { return vaddq_s32(a, b); }
uint32_t reduce_max(Ints x) { return static_cast<uint32_t>(vmaxvq_s32(x)); }
int32_t reduce_add_ints(Ints x) { return vaddvq_s32(x); }
void store_group(int8_t* q, const Ints* code) {
  for (int i = 0; i < 4; ++i, code += 2) {
    const int16x8_t narrow = vcombine_s16(vmovn_s32(code[0]), vmovn_s32(code[1]));
    vst1_s8(q + 8 * i, vmovn_s16(narrow));
  }
}

constexpr int kNarrowPack = 1;

// In the order of their needs.
// clang-format off
#include "../exp-inl.h"
#include "../read_ahead-inl.h"
#include "../floats-inl.h"
#include "../float_products-inl.h"
#include "../attention_units-inl.h"
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
constexpr int kSumRegisters = 16;   // of 32, for sums of products while weights are unpacked
constexpr int kMostFewColumns = 4;  // multiplied while unpacking: tiles broadcast with less work
constexpr int kWideBias = 0;        // sdot takes signed codes as they are
constexpr int code_class(int) { return 255; }

#include "../rows-inl.h"

FERRUM_INLINE uint8x16_t bytes_of(Ints x) { return vreinterpretq_u8_s32(x); }
FERRUM_INLINE Ints ints_of(uint8x16_t x) { return vreinterpretq_s32_u8(x); }

Ints zero_ints() { return vdupq_n_s32(0); }
Ints broadcast_int(int32_t x) { return vdupq_n_s32(x); }
Floats subtract_product(Floats a, Floats b, Floats c) { return vfmsq_f32(c, a, b); }
Ints and_(Ints a, Ints b) { return vandq_s32(a, b); }
Ints or_(Ints a, Ints b) { return vorrq_s32(a, b); }
Ints xor_(Ints a, Ints b) { return veorq_s32(a, b); }
Ints splat_byte(int x) { return ints_of(vdupq_n_u8(static_cast<uint8_t>(x))); }
Ints splat_int(int x) { return vdupq_n_s32(x); }
Ints mul_ints(Ints a, Ints b) { return vmulq_s32(a, b); }
Ints dot_pairs(Ints sum, Ints a, Ints b) {
  const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
  const Ints low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
  return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(x, y)));
}
template <int n>
FERRUM_INLINE Ints shift_left(Ints x) {
  return vreinterpretq_s32_u16(vshlq_n_u16(vreinterpretq_u16_s32(x), n));
}
template <int n>
FERRUM_INLINE Ints shift_right(Ints x) {
  return vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(x), n));
}
template <int n>
FERRUM_INLINE Ints shift_left_32(Ints x) {
  return vshlq_n_s32(x, n);
}
template <int n>
FERRUM_INLINE Ints shift_right_32(Ints x) {
  if constexpr (n == 0)
    return x;  // which the instruction cannot say
  else
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(x), n));
}
FERRUM_INLINE Ints table16(const int8_t* values, int bias) {
  return vreinterpretq_s32_s8(vaddq_s8(vld1q_s8(values), vdupq_n_s8(static_cast<int8_t>(bias))));
}
Ints look_up(Ints table, Ints indices) {
  return ints_of(vqtbl1q_u8(bytes_of(table), bytes_of(indices)));
}
FERRUM_INLINE Floats half_lanes(Ints x) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_s32(x))));
}
FERRUM_INLINE Ints gather_u32(const Rows& rows, int at) {
  uint32_t lanes[kRows];
  for (int r = 0; r < kRows; ++r) memcpy(lanes + r, rows.row(r) + at, 4);
  return vreinterpretq_s32_u32(vld1q_u32(lanes));
}
FERRUM_INLINE Floats gather_halves(const Rows& rows, int at) {
  uint16_t lanes[kRows];
  for (int r = 0; r < kRows; ++r) memcpy(lanes + r, rows.row(r) + at, 2);
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(lanes)));
}
// Byte kByte of each lane.
template <int kByte, int kTimes>
FERRUM_INLINE Ints byte_lane(Ints x) {
  static_assert(kTimes == 1, "as top_nibbles need");
  return and_(shift_right_32<8 * kByte>(x), splat_int(255));
}
// High nibbles, moved down: where they lie sdot would take them for signed.
constexpr int kTopTimes = 1;
FERRUM_INLINE Ints top_nibbles(Ints x) { return ints_of(vshrq_n_u8(bytes_of(x), 4)); }
// Four bits from bit kFirst on, each to bit kTo of a byte: a product puts a copy of them, shifted
// by 0, 7, 14 and 21, under each byte's lowest bit.
template <int kFirst, int kTo = 4>
FERRUM_INLINE Ints spread_bits(Ints words) {
  const Ints four = and_(shift_right_32<kFirst>(words), splat_int(15));
  const Ints copies = vmulq_s32(four, vdupq_n_s32(0x00204081));
  return shift_left_32<kTo>(and_(copies, splat_byte(1)));
}
FERRUM_INLINE Ints blend_halves(Ints low, Ints high) {
  return vbslq_s32(vdupq_n_u32(0xffff), low, high);
}
template <class Grid>
FERRUM_INLINE Ints look_up_each(const Grid& grid, Ints indices) {
  uint16_t lanes[2 * kRows];
  vst1q_u16(lanes, vreinterpretq_u16_s32(indices));
  for (uint16_t& lane : lanes) lane = grid.entries[lane];
  return vreinterpretq_s32_u16(vld1q_u16(lanes));
}

// 16 bytes of each of 4 rows: out[i] holds bytes 4 i .. 4 i + 3 of every row, a row per lane.
FERRUM_INLINE void transpose16(const Rows& rows, int at, Ints* out) {
  const auto row = [&](int r) { return ints_of(vld1q_u8(rows.row(r) + at)); };
  const Ints a = row(0), b = row(1), c = row(2), d = row(3);
  const int64x2_t ab_even = vreinterpretq_s64_s32(vtrn1q_s32(a, b));
  const int64x2_t ab_odd = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
  const int64x2_t cd_even = vreinterpretq_s64_s32(vtrn1q_s32(c, d));
  const int64x2_t cd_odd = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
  out[0] = vreinterpretq_s32_s64(vtrn1q_s64(ab_even, cd_even));
  out[1] = vreinterpretq_s32_s64(vtrn1q_s64(ab_odd, cd_odd));
  out[2] = vreinterpretq_s32_s64(vtrn2q_s64(ab_even, cd_even));
  out[3] = vreinterpretq_s32_s64(vtrn2q_s64(ab_odd, cd_odd));
}

// sum + the dot product of one quad of every row with four activations. Codes fit a signed byte:
// those that do not fill it stay below 64.
template <class Kind>
FERRUM_INLINE Ints dot_quad(Ints quad, const int8_t* x, Ints sum) {
  int32_t four;
  memcpy(&four, x, sizeof four);
  return vdotq_s32(sum, vreinterpretq_s8_s32(quad), vreinterpretq_s8_s32(vdupq_n_s32(four)));
}

// sums[c] += the dot products of kQuads quads of every row with the activations from `at` on: four
// quads of them are loaded at once, and each multiplied from its lane.
template <class Kind, int kQuads, int kColumns>
FERRUM_INLINE void dot_quads(const Ints* quads, const int8_t* const* x, int at, Ints* sums) {
  static_assert(kQuads % 4 == 0, "a vector holds four quads of activations");
#pragma GCC unroll 2
  for (int i = 0; i < kQuads; i += 4) {
    int8x16_t w[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) w[j] = vreinterpretq_s8_s32(quads[i + j]);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const int8x16_t four = vld1q_s8(x[c] + at + 4 * i);
      sums[c] = vdotq_laneq_s32(sums[c], w[0], four, 0);
      sums[c] = vdotq_laneq_s32(sums[c], w[1], four, 1);
      sums[c] = vdotq_laneq_s32(sums[c], w[2], four, 2);
      sums[c] = vdotq_laneq_s32(sums[c], w[3], four, 3);
    }
  }
}

// Strips read few places at once. (Nothing was timed on ARM.)
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

extern const Kernels kNeonKernels = {"neon",          find,           quantize,
                                     rms_norm,        silu_multiply,  weighted_sum,
                                     arrange_queries, attention_tile, kNarrowPack > 1};

}  // namespace ferrum
