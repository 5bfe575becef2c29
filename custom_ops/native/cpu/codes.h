// Quantized blocks as integers: what every quantized ggml type has in common.
//
// A block becomes int8 codes with one scale per 16 values and, for some types, one minimum per 16
// values: value[i] = scale[i / 16] * q[i] - min[i / 16]. Codes, scales and minimums are exactly the
// file's (a scale is a product of a float16 and a small integer, which float32 holds exactly), so
// nothing is requantized.
#pragma once

#include "../quants.h"

namespace ferrum {

struct Codes {
  // Writes one block: q[block], scale[block / 16] and, where `mins`, min[block / 16].
  void (*decode)(const uint8_t* block, int8_t* q, float* scale, float* min);
  bool halves;  // the two 16-value halves of a group of 32 have scales of their own
  bool mins;    // the type has minimums
};

// Null for float types and unknown ids.
const Codes* find_codes(int type);

}  // namespace ferrum
