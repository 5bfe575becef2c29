// The heads that a decoding block multiplies, in shared memory: the unit's queries as float16 in
// two parts, and, where the step has one token, its new key and value.
#pragma once

#include "cuda/kernels/decode_chunks-inl.h"
#include "cuda/kernels/rotate_heads-inl.h"

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

// The heads of a step of one token on their way: a warp has a query, and one of them the new key
// and value.
template <int kDim, int kType>
struct NewHeads {
  static constexpr int kHalf = kDim / 2, kHeld = kDim / 64;
  static constexpr int kKeyWarp = kUnitHeads - 1;
  Head<kHeld> query, query_weight, key, key_weight, value;
  Turn<kHeld> turn;
  int32_t block;  // of the token's position

  // Before the token's place is known.
  FERRUM_DEVICE void load(const DecodeArguments& a, const DecodeUnit& unit) {
    const int head = min(warp_index(), unit.heads - 1);
    query.load(a.from.q, (unit.first_head + head) * kDim, kHalf);
    query_weight.load(a.from.q_norm, kHalf);
    turn.load(a.from.inv_freq, kHalf);
    if (warp_index() != kKeyWarp) return;
    key.load(a.from.k, unit.kv_head * kDim, kHalf);
    key_weight.load(a.from.k_norm, kHalf);
    value.load(a.from.v, unit.kv_head * kDim, kHalf);
  }

  // As soon as it is known.
  FERRUM_DEVICE void find_block(const PagedCache& cache, const Place& place) {
    block = block_of(cache, place.sequence, place.position);
  }

  FERRUM_DEVICE void put(const DecodeArguments& a, const DecodeUnit& unit, UnitHeads<kDim>& heads) {
    turn.find(unit.length - 1, a.from.rope_scale);
    query.normalize(query_weight, kHalf, a.from.epsilon);
    turn.turn(query);
    if (warp_index() < unit.heads)
      query.store(kHalf, [&](int i, float x) { heads.put(warp_index(), i, x * a.from.scale); });
    else
      heads.clear(warp_index());
    if (warp_index() == kKeyWarp) put_key_and_value(a, unit, heads);
  }

  // The block that has the token's own position also writes them to the cache, which nobody reads
  // there in this step.
  FERRUM_DEVICE void put_key_and_value(const DecodeArguments& a, const DecodeUnit& unit,
                                       UnitHeads<kDim>& heads) {
    const PagedCache& cache = a.cache;
    key.normalize(key_weight, kHalf, a.from.epsilon);
    turn.turn(key);
    key.store(kHalf, [&](int i, float x) { heads.key[i] = element_bits(kType, x); });
    value.store(kHalf, [&](int i, float x) { heads.value[i] = element_bits(kType, x); });
    const int parts = static_cast<int>(gridDim.x), part = static_cast<int>(blockIdx.x);
    if ((unit.chunks - 1) % parts != part || unit.first_head != unit.kv_head * a.group) return;
    const int slot = slot_in(cache, block, unit.length - 1);
    if (slot == kNoSlot) return;
    const size_t to = element_of(cache, slot, unit.kv_head);
    key.store(kHalf, [&](int i, float x) { store_element({cache.keys, kType}, to + i, x); });
    value.store(kHalf, [&](int i, float x) { store_element({cache.values, kType}, to + i, x); });
  }
};

}  // namespace
}  // namespace ferrum::cuda
