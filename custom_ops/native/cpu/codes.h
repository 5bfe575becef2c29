// Quantized blocks as integers: what every quantized ggml type has in common.
//
// A block becomes int8 codes with one scale per 16 values and, for some types, one minimum per 16
// values: value[i] = scale[i / 16] * q[i] - min[i / 16]. Codes, scales and minimums are exactly the
// file's (a scale is a product of a float16 and a small integer, which float32 holds exactly), so
// nothing is requantized.
#pragma once

#include "../quants.h"

namespace ferrum {

// Whether the two 16-value halves of a group of 32 have scales of their own.
constexpr bool has_halves(int type) {
  return type == kQ2_K || type == kQ3_K || type == kQ6_K || type == kIQ2_XS || type == kIQ2_S ||
         type == kIQ1_M || type == kNVFP4;
}

constexpr bool has_mins(int type) {
  return type == kQ4_1 || type == kQ5_1 || type == kQ2_K || type == kQ4_K || type == kQ5_K;
}

// Whether the fast products know scales and minimums as small integers times one float each.
constexpr bool has_integers(int type) { return type == kQ4_K || type == kQ5_K; }

// The scales of such a block, per 32 values: scale[i] is d * factor[i], min[i] is dmin * offset[i].
struct IntegerScales {
  float d, dmin;
  uint8_t factor[8], offset[8];
};

struct Codes {
  // Writes one block: q[block], scale[block / 16] and, where `mins`, min[block / 16].
  void (*decode)(const uint8_t* block, int8_t* q, float* scale, float* min);
  bool halves;  // has_halves(type)
  bool mins;    // has_mins(type)
  // Null unless has_integers(type).
  void (*decode_integers)(const uint8_t* block, IntegerScales* scales);
};

// Null for float types and unknown ids.
const Codes* find_codes(int type);

}  // namespace ferrum
