// The heads that a decoding block multiplies, in shared memory: the unit's queries as float16 in
// two parts, and, where no kernel in front has written them, the token's new key and value.
#pragma once

#include "cuda/kernels/decode_chunks-inl.h"

namespace ferrum::cuda {
namespace {

// Two floats as float16, and what is left of them, as float16 too.
struct Halves {
  uint32_t upper, rest;
};
FERRUM_DEVICE Halves split(float first, float second) {
  const uint32_t upper = to_halves(first, second);
  return {upper,
          to_halves(first - half_to_float(upper & 0xffff), second - half_to_float(upper >> 16))};
}

// Rows lie apart by 64 bytes more than they have: two rows' reads of 64 bytes meet in no bank.
template <int kDim>
struct alignas(16) UnitHeads {
  uint16_t upper[kUnitHeads][kDim + 32], rest[kUnitHeads][kDim + 32];
  uint16_t key[kDim], value[kDim];  // of the cache's type

  FERRUM_DEVICE void put(int head, int i, float value_of_head) {
    const Halves halves = split(value_of_head, 0.0f);
    upper[head][i] = static_cast<uint16_t>(halves.upper);
    rest[head][i] = static_cast<uint16_t>(halves.rest);
  }
  FERRUM_DEVICE void clear(int head) {
    for (int i = lane_index(); i < kDim; i += kWarp) put(head, i, 0.0f);
  }

  // A warp per head, from what rotate_and_store has left.
  FERRUM_DEVICE void load(const DecodeArguments& a, const DecodeUnit& unit) {
    const int head = warp_index();
    if (head >= unit.heads) {
      clear(head);
      return;
    }
    const float* const from = a.queries + (unit.token * a.heads + unit.first_head + head) * kDim;
    float values[kDim / kWarp];
#pragma unroll
    for (int i = 0; i < kDim / kWarp; ++i) values[i] = from[i * kWarp + lane_index()];
#pragma unroll
    for (int i = 0; i < kDim / kWarp; ++i) put(head, i * kWarp + lane_index(), values[i]);
  }
};

}  // namespace
}  // namespace ferrum::cuda
