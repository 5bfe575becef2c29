// NEON with dot products: one instruction multiplies and adds 16 bytes.
#include <arm_neon.h>

#include "loops.h"

namespace ferrum {
namespace {

#include "loops-inl.h"

typedef uint64_t Words __attribute__((vector_size(16), may_alias));
constexpr int kSums = 16;

void multiply_int8(int64_t n) {
  int32x4_t sums[kSums] = {};
  int8x16_t x = vdupq_n_s8(1);
  touch(x);
  touch_registers(sums);  // each is a sum of its own
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < kSums; ++k) sums[k] = vdotq_s32(sums[k], x, x);
  }
  touch_registers(sums);
}

void multiply_float32(int64_t n) {
  float32x4_t sums[kSums] = {}, x = vdupq_n_f32(0.5F);
  touch(x);
  touch_registers(sums);  // each is a sum of its own
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < kSums; ++k) sums[k] = vfmaq_f32(sums[k], x, x);
  }
  touch_registers(sums);
}

}  // namespace

const Loops kNeonLoops = {"neon",
                          {"sdot v.4s", 16 * kSums, multiply_int8},
                          {"fmla v.4s", 4 * kSums, multiply_float32},
                          read_lines<Words>};

}  // namespace ferrum
