// The kernels in plain C++: any machine, every type, and the yardstick for the fast ones.
#include <cstring>
#include <type_traits>

#include "../codes.h"
#include "../half.h"
#include "../kernels.h"
#include "tables.h"

namespace ferrum {
namespace {

// The vector vocabulary in the compiler's portable vectors.
constexpr int kLanes = 4;
constexpr int kRegisters = 16;
constexpr bool kWidens = false;  // floats of 2 bytes, in an instruction or two
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));

Floats broadcast(float x) { return Floats{x, x, x, x}; }
Floats zero() { return broadcast(0.0f); }
Floats load(const float* p) {
  Floats x;
  memcpy(&x, p, sizeof x);
  return x;
}
void store(float* p, Floats x) { memcpy(p, &x, sizeof x); }
Floats add(Floats a, Floats b) { return a + b; }
Floats sub(Floats a, Floats b) { return a - b; }
Floats mul(Floats a, Floats b) { return a * b; }
Floats div(Floats a, Floats b) { return a / b; }
Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
Floats max(Floats a, Floats b) { return a > b ? a : b; }
Floats min(Floats a, Floats b) { return a < b ? a : b; }
float reduce_add(Floats x) { return (x[0] + x[2]) + (x[1] + x[3]); }
void reduce_add_four(const Floats* x, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = reduce_add(x[i]);
}
using HalfFloats = Floats;
// v[i]'s lane j becomes v[j]'s lane i.
void transpose(Floats* v) {
  const Floats a = v[0], b = v[1], c = v[2], d = v[3];
  for (int i = 0; i < kLanes; ++i) v[i] = Floats{a[i], b[i], c[i], d[i]};
}
Floats widen_half(const uint8_t* p) {
  return Floats{half_to_float(read_u16(p)), half_to_float(read_u16(p + 2)),
                half_to_float(read_u16(p + 4)), half_to_float(read_u16(p + 6))};
}
Floats widen_bfloat16(const uint8_t* p) {
  return Floats{bfloat16_to_float(read_u16(p)), bfloat16_to_float(read_u16(p + 2)),
                bfloat16_to_float(read_u16(p + 4)), bfloat16_to_float(read_u16(p + 6))};
}
Ints round_to_int(Floats x) {  // |x| < 2^22; anything else gives some integer
  const Floats shifted = x + broadcast(12582912.0f);
  Ints bits;
  memcpy(&bits, &shifted, sizeof bits);
  return bits - Ints{0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000};
}
Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }
Floats power_of_two(Ints n) {
  using Bits = uint32_t __attribute__((vector_size(16)));
  const Bits bits = (reinterpret_cast<Bits>(n) + 127u) << 23;
  Floats x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
Floats scale(Floats x, Ints n) {
  const Ints half = n >> 1;
  return mul(mul(x, power_of_two(half)), power_of_two(n - half));
}

Ints magnitudes(Floats x) {
  Ints bits;
  memcpy(&bits, &x, sizeof bits);
  return bits & 0x7fffffff;
}
Ints max_ints(Ints a, Ints b) { return a > b ? a : b; }
Ints add_ints(Ints a, Ints b) { return a + b; }
uint32_t reduce_max(Ints x) {
  int32_t largest = x[0];
  for (int i = 1; i < kLanes; ++i) largest = x[i] > largest ? x[i] : largest;
  return static_cast<uint32_t>(largest);
}
int32_t reduce_add_ints(Ints x) { return x[0] + x[1] + x[2] + x[3]; }
void store_group(int8_t* q, const Ints* code) {
  for (int i = 0; i < kGroup; ++i) q[i] = static_cast<int8_t>(code[i / kLanes][i % kLanes]);
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

#include "../row_int8-inl.h"

#define FERRUM_KERNELS(name, id, block, bytes) \
  {id, int8_product<id, block, false>(), int8_product<id, block, true>(), matmul_float<id>},
constexpr QuantKernels kQuantKernels[] = {FERRUM_QUANTS(FERRUM_KERNELS)};
#undef FERRUM_KERNELS

#include "../find-inl.h"

}  // namespace

extern const Kernels kGenericKernels = {"generic",       find,           quantize,
                                        rms_norm,        silu_multiply,  weighted_sum,
                                        arrange_queries, attention_tile, kNarrowPack > 1};

}  // namespace ferrum
